"""Retrieve, then rank: candidates of several members, fused into one ranking.

The factorisation, the two towers and popularity each propose items, and the ranker ranks all of them. Because
their scores are not comparable, ranks are fused: an item's score is the sum over lists of
weight / (softness + rank) (weighted reciprocal rank fusion, Cormack et al. 2009). The reason of an item is
the proposer that ranked it highest.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shopsight.serving.routing.items import Items
from shopsight.serving.routing.rows import Row, bucket

Array = np.ndarray[Any, Any]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]

RETRIEVAL, RANKER = "two_tower_retrieval", "ranker"
RECENT = "recent"
_WEIGHED = ("factorised", "towers", "popular", "ranker")
_TAKES_BACK = "return"


@dataclass(frozen=True)
class Taste:
    """The input of the embedding members for a customer: item indices, latest first, and codes of facts."""

    history: Array
    facts: Array


@dataclass(frozen=True)
class Proposals:
    """Distinct candidates of one customer, each with the proposer that ranked it highest.

    score: the sum of the proposers' weighted reciprocal ranks, float64 [candidates].
    """

    item: Array
    reason: tuple[str, ...]
    score: Array

    def only(self, shown: Array) -> Proposals:
        """Return the candidates that may be shown; shown: bool [items]."""
        kept = np.flatnonzero(shown[self.item])
        return Proposals(self.item[kept], tuple(self.reason[i] for i in kept.tolist()), self.score[kept])


class Blender:
    """Calls the embedding members of a release.

    preprocessing["blend"]: weights (of the lists of factorisation, towers, popularity and ranker in the
    order), softness (added to every rank), num_candidates (of each proposer), max_history (items that the
    members read), item_buckets (an id that training did not know is number of items + BLAKE2b of it modulo
    this) and num_facts. Arrays of customers.safetensors: recent_indptr, recent_item (the latest first),
    customer_fact.
    """

    def __init__(self, items: Items, people: Mapping[str, Array], settings: Mapping[str, Any]) -> None:
        self.num_candidates = int(settings["num_candidates"])
        self.weights = {name: float(settings["weights"][name]) for name in _WEIGHED}
        self._softness = float(settings["softness"])
        self._items, self._people = items, people
        self._max_history = int(settings["max_history"])
        self._buckets = int(settings["item_buckets"])
        self._num_facts = int(settings["num_facts"])

    def taste(self, row: Row, person: int) -> Taste:
        """Return the members' input for a request; person: the customer's row, below 0 if unknown."""
        told = self._told(row)
        stored = np.empty(0, dtype=np.int64)
        facts = np.zeros(self._num_facts, dtype=np.int64)
        if person >= 0:
            begin, end = self._people["recent_indptr"][person : person + 2]
            stored = self._people["recent_item"][begin:end].astype(np.int64)
            facts = self._people["customer_fact"][person].astype(np.int64)
        return Taste(np.concatenate([told, stored])[: self._max_history], facts)

    def retrieve(
        self, tastes: Sequence[Taste], exclude: Sequence[Array], allow: Sequence[Array | None], ask: Ask
    ) -> list[Array]:
        """Return the two towers' items for each customer, int64, best first."""
        groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for place, (taste, out, only) in enumerate(zip(tastes, exclude, allow, strict=True)):
            num_allowed = 0 if only is None else len(only)
            groups[bucket(len(taste.history)), bucket(len(out)), bucket(num_allowed)].append(place)
        found: list[Array] = [np.empty(0, dtype=np.int64)] * len(tastes)
        for (num_history, num_exclude, num_allow), places in groups.items():
            inputs = self._customers([tastes[p] for p in places], num_history)
            inputs["EXCLUDE_ITEM"] = padded([exclude[p] for p in places], num_exclude)
            none = np.empty(0, dtype=np.int64)
            allowed = [none if (only := allow[p]) is None else only for p in places]
            inputs["ALLOW_ITEM"] = padded(allowed, num_allow)
            inputs["K"] = np.full((len(places), 1), self.num_candidates, dtype=np.int64)
            answer = ask(RETRIEVAL, inputs)["ITEM_INDEX"]
            for place, index in zip(places, answer, strict=True):
                found[place] = index[index >= 0]
        return found

    def scores(self, tastes: Sequence[Taste], candidates: Sequence[Array], ask: Ask) -> list[Array]:
        """Return the ranker's score of each candidate, float32 in the candidates' order."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, (taste, items) in enumerate(zip(tastes, candidates, strict=True)):
            groups[bucket(len(taste.history)), bucket(len(items))].append(place)
        found: list[Array] = [np.empty(0, dtype=np.float32)] * len(tastes)
        for (num_history, num_candidates), places in groups.items():
            inputs = self._customers([tastes[p] for p in places], num_history)
            inputs["CANDIDATE_ITEM"] = padded([candidates[p] for p in places], num_candidates)
            answer = ask(RANKER, inputs)["SCORE"]
            for place, score in zip(places, answer, strict=True):
                found[place] = score[: len(candidates[place])]
        return found

    def joined(self, proposers: Sequence[tuple[str, str, Array]]) -> Proposals:
        """Merge lists of items, best first; each list comes with its reason and the name of its weight."""
        best: dict[int, tuple[int, str]] = {}
        score: dict[int, float] = defaultdict(float)
        for reason, name, items in proposers:
            for rank, item in enumerate(items.tolist()):
                score[item] += self.weights[name] / (self._softness + rank)
                if item not in best or rank < best[item][0]:
                    best[item] = (rank, reason)
        found = sorted(best)
        reasons = tuple(best[item][1] for item in found)
        return Proposals(np.array(found, np.int64), reasons, np.array([score[item] for item in found]))

    def ordered(self, proposals: Proposals, by_ranker: Array) -> tuple[Array, Array]:
        """Return the candidates' order, int64, best first, and their scores in that order, float64."""
        rank = np.empty(len(by_ranker))
        rank[np.argsort(-by_ranker, kind="stable")] = np.arange(len(by_ranker))
        score = proposals.score + self.weights["ranker"] / (self._softness + rank)
        order = np.argsort(-score, kind="stable")
        return order, score[order]

    def _told(self, row: Row) -> Array:
        """Return the items of the request, latest first; without times, the last given is the latest."""
        given = row.texts("HISTORY_ITEM")
        events = row.texts("HISTORY_EVENT") if "HISTORY_EVENT" in row else [b""] * len(given)
        times = row.tensors.get("HISTORY_TIME")
        order = np.arange(len(given)) if times is None else np.argsort(times, kind="stable")
        kept = [
            i for i in order[::-1].tolist() if given[i] and events[i].decode(errors="replace") != _TAKES_BACK
        ]
        return np.array([self._index(given[i]) for i in kept], dtype=np.int64)

    def _index(self, item_id: bytes) -> int:
        known = self._items.index_of(item_id)
        if known is not None:
            return known
        digest = hashlib.blake2b(item_id, digest_size=8).digest()
        return len(self._items) + int.from_bytes(digest, "little") % self._buckets

    def _customers(self, tastes: Sequence[Taste], num_history: int) -> dict[str, Array]:
        inputs = {"HISTORY_ITEM": padded([taste.history for taste in tastes], num_history)}
        if self._num_facts:
            inputs["CUSTOMER_FEATURE"] = np.stack([taste.facts for taste in tastes])
        return inputs


def varied(category: Array, most: int, k: int) -> Array:
    """Return the positions, int64, of at most k items of a ranked list with at most `most` per category.

    If too few items remain, items above the limit fill the end. category: int [n]; items with -1 have no
    category and no limit. most = 0 means no limit.
    """
    if most <= 0 or len(category) <= 1:
        return np.arange(min(k, len(category)))
    counts: dict[int, int] = defaultdict(int)
    taken: list[int] = []
    left: list[int] = []
    for place, code in enumerate(category.tolist()):
        full = code >= 0 and counts[code] >= most
        (left if full else taken).append(place)
        counts[code] += 1
    return np.array((taken + left)[:k], dtype=np.int64)


def padded(lists: Sequence[Array], length: int) -> Array:
    """Return lists of indices as int64 [lists, length], padded with -1."""
    rows = np.full((len(lists), length), -1, dtype=np.int64)
    for row, values in zip(rows, lists, strict=True):
        row[: len(values)] = values
    return rows
