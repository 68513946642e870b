"""The catalogue of a router: item ids to indices and back, and popular items."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.serving.routing.arrays import map_safetensors
from shopsight.serving.safetensors_layout import TensorFileError

Array = np.ndarray[Any, Any]

ITEMS_FILE = "items.safetensors"
_UNWANTED = -1


class Items:
    """Items in the order of the member's item factors.

    Arrays of the file: item_id uint8 [bytes] with item_id_offset int64 [i + 1], item_factor float32 [i, f],
    popularity float32 [i], segment_popular int32 [segments, p] (item indices, -1 pads), category int32 [i]
    (-1: none), sellable uint8 [i] (0: never shown) and cold uint8 [i] (1: known by its content alone), which
    earlier releases lack.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / ITEMS_FILE
        arrays = map_safetensors(path)
        try:
            joined, offsets = arrays["item_id"].tobytes(), arrays["item_id_offset"].tolist()
            self.factor, self.popularity = arrays["item_factor"], arrays["popularity"]
            self.segment_popular = arrays["segment_popular"]
            num_items = len(offsets) - 1
            self.category = arrays.get("category", np.full(num_items, -1, dtype=np.int32))
            self.sellable = arrays.get("sellable", np.ones(num_items, dtype=np.uint8)).astype(np.bool_)
            self.cold = arrays.get("cold", np.zeros(num_items, dtype=np.uint8)).astype(np.bool_)
        except KeyError as error:
            raise TensorFileError(f"{path}: tensor {error} is missing; export recommend again") from error
        self.ids = [joined[a:b] for a, b in pairwise(offsets)]
        self._index = {item_id: index for index, item_id in enumerate(self.ids)}
        # Items without events, or that cannot be sold now, have popularity 0 and are never returned as
        # popular.
        order = np.argsort(-self.popularity, kind="stable")
        self._by_popularity = order[self.popularity[order] > 0]
        self._rank = np.full(len(self.ids), _UNWANTED, dtype=np.int64)
        self._rank[self._by_popularity] = np.arange(len(self._by_popularity))

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, item_id: bytes) -> int | None:
        """Return the index of an item, None if the release does not know it."""
        return self._index.get(item_id)

    def indices_of(self, item_ids: list[bytes]) -> Array:
        """Return the distinct indices, int64 ascending, of the known ones among `item_ids`."""
        found = {self._index[item] for item in item_ids if item in self._index}
        return np.array(sorted(found), dtype=np.int64)

    def popular(self, k: int, exclude: Array, allow: Array | None, segment: int = -1) -> Array:
        """Return up to `k` item indices, most popular first; items popular in `segment` come before others.

        A segment's list is short; the rest is filled by popularity over all customers.
        """
        order = self._by_popularity[: k + len(exclude)] if allow is None else self._ranked(allow)
        if 0 <= segment < len(self.segment_popular):
            tastes = self.segment_popular[segment].astype(np.int64)
            tastes = tastes[tastes >= 0] if allow is None else tastes[np.isin(tastes, allow)]
            joined = np.concatenate([tastes, self._by_popularity[: k + len(exclude) + len(tastes)]])
            joined = joined if allow is None else np.concatenate([tastes, order])
            order = joined[np.sort(np.unique(joined, return_index=True)[1])]
        return np.asarray(order[~np.isin(order, exclude)][:k])

    def _ranked(self, indices: Array) -> Array:
        ranks = self._rank[indices]
        return np.asarray(self._by_popularity[np.sort(ranks[ranks != _UNWANTED])])
