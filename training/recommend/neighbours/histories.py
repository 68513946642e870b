"""Histories of customers as plain arrays: which items, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from shopsight.training.recommend.fading import fading


@dataclass(frozen=True)
class Histories:
    """The items of each customer in the order of time, the latest last.

    indptr: int64 [customers + 1], where each customer's items begin in `items`. items: int32 [events], item
    numbers in 0..num_items - 1; an item may occur repeatedly. Raises TypeError or ValueError naming the array
    and the position that is wrong.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int32]
    num_items: int

    def __post_init__(self) -> None:
        indptr, items = _integers(self.indptr, "indptr"), _integers(self.items, "items")
        if self.num_items < 1:
            raise ValueError(f"num_items={self.num_items}: must be at least 1")
        if not len(indptr) or indptr[0] != 0 or indptr[-1] != len(items):
            raise ValueError(f"indptr: must begin with 0 and end with the number of items, {len(items)}")
        if (falling := np.flatnonzero(np.diff(indptr) < 0)).size:
            raise ValueError(f"indptr: falls after position {falling[0]}; it must not decrease")
        if (outside := np.flatnonzero((items < 0) | (items >= self.num_items))).size:
            raise ValueError(
                f"items: {items[outside[0]]} at position {outside[0]} is not in 0..{self.num_items - 1}"
            )
        object.__setattr__(self, "indptr", indptr.astype(np.int64))
        object.__setattr__(self, "items", items.astype(np.int32))

    @classmethod
    def of(cls, rows: Sequence[ArrayLike], num_items: int) -> Histories:
        """Return the histories of `rows`, one array of item numbers for each customer."""
        lengths = [len(np.atleast_1d(row)) for row in rows]
        items = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int64) for row in rows)])
        return cls(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items, num_items)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def part(self, begin: int, end: int) -> Histories:
        """Return the histories of customers begin..end - 1."""
        first, last = self.indptr[begin], self.indptr[end]
        return Histories(self.indptr[begin : end + 1] - first, self.items[first:last], self.num_items)

    def chosen(self, customers: NDArray[np.int64]) -> Histories:
        """Return the histories of these customers, int64 [n], in this order."""
        lengths = np.diff(self.indptr)[customers]
        indptr: NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths)
        return Histories(
            indptr, self.items[np.repeat(self.indptr[customers], lengths) + within], self.num_items
        )

    def customers(self) -> NDArray[np.int64]:
        """Return the customer of each event, int64 [events]."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def steps_back(self) -> NDArray[np.int64]:
        """Return how many events of its customer follow each event, int64 [events]; the latest has 0."""
        ends = np.repeat(self.indptr[1:], np.diff(self.indptr))
        return ends - 1 - np.arange(len(self.items))

    def popularity(self) -> NDArray[np.int64]:
        """Return the number of customers who have each item, int64 [items]."""
        cells = np.unique(self.customers() * self.num_items + self.items)
        return np.bincount(cells % self.num_items, minlength=self.num_items)

    def weights(self, half_life: float = np.inf) -> sparse.csr_matrix:
        """Return the histories as CSR float32 [customers, items], sorted, faded with every step back.

        An item that occurs repeatedly has the weight of its latest place. `half_life` is that of `fading`.
        """
        rows, steps = self.customers(), self.steps_back()
        order = np.lexsort((steps, self.items, rows))
        rows, columns, steps = rows[order], self.items[order], steps[order]
        latest = np.ones(len(order), dtype=bool)
        latest[1:] = (np.diff(rows) != 0) | (np.diff(columns) != 0)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[latest], minlength=len(self)))])
        return sparse.csr_matrix(
            (fading(steps[latest], half_life), columns[latest], indptr), (len(self), self.num_items)
        )


def _integers(values: Any, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name}: must be an array of integers with one axis, not {array.dtype} {array.shape}"
        )
    return array
