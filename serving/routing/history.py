"""Folds a request's history of events into the factorisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shopsight.kernels.reference.fold_in import fold_in
from shopsight.serving.routing.items import Items
from shopsight.serving.routing.rows import RequestError, Row

Array = np.ndarray[Any, Any]

DEFAULT_EVENT = "view"
_MICROSECONDS_PER_DAY = 86_400_000_000
_LEAST = 1e-6  # weights up to this are left out, as in training
# A return cancels its purchase. Ratings are weighted by stars, which a request does not have.
_TAKES_BACK = {"return": "purchase"}
_UNRATED = frozenset({"rating", "review"})
_SAYS_NOTHING = frozenset({"search", "message", "exposure"})


@dataclass(frozen=True)
class History:
    """The known items of a request's history with their weights; weights of one item are summed.

    item int64 [n] ascending, weight float64 [n], bought int64 (items whose purchases outlast their returns).
    """

    item: Array
    weight: Array
    bought: Array


class HistoryReader:
    """Turns HISTORY_* tensors into weights with the event weights and the half-lives of training."""

    def __init__(self, items: Items, preprocessing: Mapping[str, Any]) -> None:
        self._items = items
        self._event_weights = {str(k): float(v) for k, v in preprocessing["event_weights"].items()}
        self._half_life = float(preprocessing["half_life_days"]) * _MICROSECONDS_PER_DAY
        # Releases before there were steps have none.
        self._half_life_steps = float(preprocessing.get("half_life_steps", 0.0))
        self._telling = self._event_weights.keys() | _TAKES_BACK.keys()
        self._known_events = self._telling | _SAYS_NOTHING

    def read(self, row: Row) -> History:
        """Return the history of a request; raises RequestError naming the tensor and the broken rule."""
        given = row.texts("HISTORY_ITEM")
        events = self._events(row, len(given))
        fade = self._fade(row, given, events)
        kept = [i for i, item in enumerate(given) if item]  # empty strings pad rows of unequal length
        weights: dict[int, float] = {}
        purchases: dict[int, int] = {}
        for i in kept:
            item = self._items.index_of(given[i])
            if item is None:  # an item unknown to this release has no factor
                continue
            weights[item] = weights.get(item, 0.0) + self._signed_weight(events[i]) * float(fade[i])
            purchases[item] = purchases.get(item, 0) + (events[i] == "purchase") - (events[i] == "return")
        found = np.array(sorted(weights), dtype=np.int64)
        weight = np.array([weights[item] for item in found.tolist()])
        bought = np.array(sorted(item for item, count in purchases.items() if count > 0), dtype=np.int64)
        return History(found, weight, bought)

    def _signed_weight(self, event: str) -> float:
        if event in _TAKES_BACK:
            return -self._event_weights.get(_TAKES_BACK[event], 0.0)
        return 0.0 if event in _UNRATED else self._event_weights.get(event, 0.0)

    def _events(self, row: Row, length: int) -> list[str]:
        if "HISTORY_EVENT" not in row:
            return [DEFAULT_EVENT] * length
        events = [event.decode(errors="replace") or DEFAULT_EVENT for event in row.texts("HISTORY_EVENT")]
        if len(events) != length:
            raise RequestError(f"HISTORY_EVENT has {len(events)} entries, HISTORY_ITEM has {length}")
        for i, event in enumerate(events):
            if event not in self._known_events:
                raise RequestError(
                    f"HISTORY_EVENT[{i}] is no event that this release knows; "
                    f"it must be one of {', '.join(sorted(self._known_events))}"
                )
        return events

    def _fade(self, row: Row, given: list[bytes], events: list[str]) -> Array:
        """Return the decay weight of each entry by its age and its steps back, float64, 0 to 1.

        Both are measured from the customer's own latest event with a weight, as in training; entries after it
        have no weight. Without times there is no age, and the last entry is the latest.
        """
        times = row.tensors.get("HISTORY_TIME")
        if times is not None and len(times) != len(events):
            raise RequestError(f"HISTORY_TIME has {len(times)} entries, HISTORY_ITEM has {len(events)}")
        tells = zip(given, events, strict=True)
        telling = np.array([bool(item) and event in self._telling for item, event in tells], dtype=np.bool_)
        halvings = np.zeros(len(events))
        if times is not None:
            latest = times[telling].max() if telling.any() else 0
            halvings += np.maximum(latest - times, 0).astype(np.float64) / self._half_life
        if self._half_life_steps:
            halvings += _moments_after(np.arange(len(events)) if times is None else times, telling) / (
                self._half_life_steps
            )
        return np.asarray(np.exp2(-halvings))


def _moments_after(times: Array, telling: Array) -> Array:
    """Return how many different times of the telling entries are after each entry, int64 [n]."""
    moments = np.unique(times[telling])
    return np.asarray(len(moments) - np.searchsorted(moments, times, side="right"))


class Folder:
    """Fold-in: solves for the factors of customers that were not in training, with training's objective.

    The objective is that of Rendle et al. (2022, "Revisiting iALS"); an item of weight v has weight and
    target v. preprocessing: unobserved_weight, regularization and regularization_exponent. The L2 penalty of
    a history of n items is regularization * (n + unobserved_weight * items) ** regularization_exponent.
    """

    def __init__(self, item_factor: Array, preprocessing: Mapping[str, Any]) -> None:
        self._item_factor = item_factor
        factor = item_factor.astype(np.float64)
        self._gramian = factor.T @ factor
        self._unobserved_weight = float(preprocessing["unobserved_weight"])
        self._regularization = float(preprocessing["regularization"])
        self._exponent = float(preprocessing["regularization_exponent"])

    def fold_in(self, history: History) -> Array:
        """Return the factors float32 [f] of one history; zeros if no item has a weight."""
        liked = history.weight > _LEAST
        weight = history.weight[liked]
        frequency = len(weight) + self._unobserved_weight * len(self._item_factor)
        factors = fold_in(
            indptr=np.array([0, len(weight)]),
            indices=np.arange(len(weight)),
            weight=weight,
            target=weight,
            factors=self._item_factor[history.item[liked]],
            regularization=np.array([self._regularization * max(frequency, 1.0) ** self._exponent]),
            unobserved_weight=self._unobserved_weight,
            gramian=self._gramian,
        )
        return np.asarray(factors[0].astype(np.float32))
