"""The public sets on which the embedding models are judged, as events in time and as the peers' cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.datasets import SHARED
from benchmarks.recommend_sets import ML1M, Cut, PublicSet, _ml1m
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.retrieval_task import Asked

Int64 = NDArray[np.int64]
ITEM_BUCKETS = 16
_WINDOW_DAYS = 28
_DAY = 86_400_000_000
_RETAIL = ("online_retail", "online_retail.csv.gz")


@dataclass(frozen=True)
class Events:
    """What customers did, rows in order of customer and time; `time` int64, microseconds or a mere order."""

    customer: Int64
    item: Int64
    time: Int64
    shape: tuple[int, int]

    def where(self, chosen: NDArray[np.bool_]) -> Events:
        """The events of a mask."""
        return Events(self.customer[chosen], self.item[chosen], self.time[chosen], self.shape)

    def cells(self) -> sparse.csr_matrix:
        """CSR of ones [customers, items]."""
        cells = sparse.csr_matrix(
            (np.ones(len(self.item), np.float32), (self.customer, self.item)), self.shape
        )
        cells.data[:] = 1
        cells.sort_indices()
        return cells


@dataclass(frozen=True)
class Split:
    """What is learned from and what is held out: of customers who have a past, items that the past knows."""

    past: Events
    relevant: sparse.csr_matrix

    def cut(self) -> Cut:
        """As the factorisation and the floors read it: an entry's value is how many times ago it was."""
        past = self.past
        moment = np.r_[True, (np.diff(past.customer) != 0) | (np.diff(past.time) != 0)].cumsum()
        last = np.zeros(past.shape[0], dtype=np.int64)
        np.maximum.at(last, past.customer, moment)
        ago = last[past.customer] - moment + 1
        order = np.lexsort((ago, past.item, past.customer))
        rows, columns, values = past.customer[order], past.item[order], ago[order]
        first = np.r_[True, (np.diff(rows) != 0) | (np.diff(columns) != 0)]
        recency = sparse.csr_matrix(
            (values[first].astype(np.float32), (rows[first], columns[first])), past.shape
        )
        recency.sort_indices()
        return Cut(recency, self.relevant)

    def examples(self, folder: Path, with_repeats: bool) -> Examples:
        """As the embedding models read it; there are no facts on customers or items.

        with_repeats: whether what a customer had bought before is an example when it is bought again.
        """
        past = self.past
        order = np.lexsort((past.time, past.item, past.customer))
        again = np.zeros(len(order), dtype=np.bool_)
        same = (np.diff(past.customer[order]) == 0) & (np.diff(past.item[order]) == 0)
        again[order[1:][same]] = True
        write_examples(
            folder,
            customer=past.customer,
            item=past.item,
            time=past.time,
            is_target=~again | with_repeats,
            item_ids=[str(number) for number in range(past.shape[1])],
            customer_features=Features.none(past.shape[0]),
            item_features=Features.none(past.shape[1]),
            item_buckets=ITEM_BUCKETS,
        )
        return Examples.open(folder)

    def asked(self, examples: Examples, k: int, masked: bool) -> Asked:
        """Everybody with something held out."""
        users = np.flatnonzero(np.diff(self.relevant.indptr))
        hidden = self.past.cells()[users] if masked else None
        return Asked(users, examples.end[users], examples.end[users + 1], self.relevant[users], hidden, k=k)


def retail_split(test: bool) -> Split:
    """The last 28 days of online_retail, or for choosing the 28 days before them."""
    events = _retail()
    end = int(events.time.max()) + 1 - (0 if test else _WINDOW_DAYS * _DAY)
    begin = end - _WINDOW_DAYS * _DAY
    past = events.where(events.time < begin)
    later = events.where((events.time >= begin) & (events.time < end))
    warm = np.isin(later.customer, past.customer) & np.isin(later.item, past.item)
    return Split(past, later.where(warm).cells())


def ml1m_split(test: bool) -> Split:
    """The last item of each user, or for choosing the last but one with the last left away."""
    users, items = _ml1m()
    order = np.argsort(users, kind="stable")
    counts = np.bincount(users)
    place = np.repeat(np.cumsum(counts), counts) - np.arange(len(users)) - (0 if test else 1)
    shape = (len(counts), int(items.max()) + 1)
    events = Events(users[order], items[order], np.arange(len(users)), shape)
    return Split(events.where(place > 1), events.where(place == 1).cells())


@cache
def _retail() -> Events:
    """Lines with a customer, a quantity and a price above 0, no cancellations; one a moment and item."""
    raw = pl.read_csv(SHARED.joinpath(*_RETAIL), infer_schema=False, encoding="utf8-lossy")
    number = pl.col("Quantity").cast(pl.Float64), pl.col("UnitPrice").cast(pl.Float64)
    kept = raw.filter(
        pl.col("CustomerID").is_not_null() & (pl.col("CustomerID") != ""), number[0] > 0, number[1] > 0
    )
    kept = kept.filter(~pl.col("InvoiceNo").str.starts_with("C")).select(
        "CustomerID",
        "StockCode",
        time=pl.col("InvoiceDate").str.to_datetime("%Y-%m-%d %H:%M:%S").dt.epoch("us"),
    )
    kept = kept.unique().sort("CustomerID", "time", "StockCode")
    (customers, customer), (items, item) = (
        np.unique(kept[name].to_numpy(), return_inverse=True) for name in ("CustomerID", "StockCode")
    )
    return Events(customer, item, kept["time"].to_numpy(), (len(customers), len(items)))


@dataclass(frozen=True)
class EmbeddingSet:
    """A set, how it is cut, and the same for the peers."""

    public: PublicSet
    split: Callable[[bool], Split]


RETAIL = PublicSet(
    name="online_retail",
    k=20,
    protocol=(
        "global split in time: the last 28 days are the test window, settings chosen on the 28 days before; "
        "customers with a past and with bought items that the past knows; all such items ranked; recall "
        "divides by the customer's items in the window"
    ),
    metrics=("recall_at_20", "ndcg_at_20"),
    files=(_RETAIL,),
    read_validation=lambda: retail_split(False).cut(),
    read_test=lambda: retail_split(True).cut(),
    published={},
    source="",
    masked=(True,),
)
MOVIES = replace(ML1M, k=20, metrics=("recall_at_20", "ndcg_at_20"), published={}, source="", masked=(True,))
SETS = {
    one.public.name: one for one in (EmbeddingSet(RETAIL, retail_split), EmbeddingSet(MOVIES, ml1m_split))
}
