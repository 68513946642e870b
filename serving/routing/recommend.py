"""The recommend router: who asks, what may be shown, and which list answers."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving.contract import ModelContract
from serving.pseudonym import PseudonymKey, load_key
from serving.routing.history import Folder, HistoryReader
from serving.routing.items import Items
from serving.routing.people import UNKNOWN, People
from serving.routing.rows import RequestError, Row, bucket, byte_strings

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
Reason = Literal["personal", "folded_in", "popular_in_segment", "popular"]

DEFAULT_K = 10
MAX_K = 1000
_NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    """How one row is answered: a factor for the member, or none where popularity answers."""

    k: int
    exclude: Array
    allow: Array | None
    reason: Reason = "popular"
    factor: Array | None = None
    segment: int = -1


class RecommendRouter:
    """Answers `recommend` rows; one call of the member for all rows of equal padded shape.

    Data: customers.safetensors with customer_id, user_factor float32 [n, f], seen_indptr int64 [n + 1],
    seen_item int32, and optionally segment int32 [n] (-1: none) and personalised uint8 [n] (0: this customer
    forbids it, and gets what PERSONALISED = false gets); identities.safetensors; items.safetensors.
    preprocessing: event_weights, half_life_days (serving/routing/history.py), the settings of
    `Folder`, filter_viewed (whether seen_item, and what a history bought and kept, is left out) and key_id.
    Items that the release does not know are ignored in HISTORY_ITEM and EXCLUDE; an ALLOW of none but
    unknown items allows nothing.
    """

    def __init__(self, folder: Path, release: str, load_key: Callable[[], PseudonymKey] = load_key) -> None:
        preprocessing = ModelContract.read(folder).preprocessing
        self._release = release.encode()
        self._people = People(folder, load_key, preprocessing.get("key_id", ""))
        self._items = Items(folder)
        self._history = HistoryReader(self._items, preprocessing)
        self._folder = Folder(self._items.factor, preprocessing)
        self._filter_viewed = bool(preprocessing["filter_viewed"])

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        plans = [self._plan_or_error(row) for row in rows]
        ranked = self._retrieve(plans, ask)
        return [
            plan if isinstance(plan, RequestError) else self._answer(row, plan, *self._ranking(plan, found))
            for row, plan, found in zip(rows, plans, ranked, strict=True)
        ]

    def _plan_or_error(self, row: Row) -> Plan | RequestError:
        try:
            return self._plan(row)
        except RequestError as error:
            return error

    def _plan(self, row: Row) -> Plan:
        k = row.number("K", DEFAULT_K)
        if not 1 <= k <= MAX_K:
            raise RequestError(f"K is {k}; it must be from 1 to {MAX_K}")
        allowed = [item for item in row.texts("ALLOW") if item]
        plan = Plan(
            k=min(k, len(self._items)),
            exclude=self._items.indices_of(row.texts("EXCLUDE")),
            allow=self._items.indices_of(allowed) if allowed else None,
        )
        return self._personal(row, plan) if row.flag("PERSONALISED", True) else plan

    def _personal(self, row: Row, plan: Plan) -> Plan:
        history = self._history.read(row)
        person = self._people.row_of(row)
        if not self._allows(person):
            return plan
        seen, factor, segment = self._known(person)
        if self._filter_viewed:
            plan = replace(plan, exclude=np.unique(np.concatenate([plan.exclude, seen, history.bought])))
        if factor.any():
            return replace(plan, reason="personal", factor=factor)
        folded = self._folder.fold_in(history)
        if folded.any():
            return replace(plan, reason="folded_in", factor=folded)
        return replace(plan, reason="popular_in_segment", segment=segment) if segment >= 0 else plan

    def _allows(self, person: int) -> bool:
        arrays = self._people.arrays
        return person == UNKNOWN or "personalised" not in arrays or bool(arrays["personalised"][person])

    def _known(self, person: int) -> tuple[Array, Array, int]:
        if person == UNKNOWN:
            return _NOTHING, np.zeros(0, dtype=np.float32), -1
        arrays = self._people.arrays
        begin, end = arrays["seen_indptr"][person : person + 2]
        segment = int(arrays["segment"][person]) if "segment" in arrays else -1
        return arrays["seen_item"][begin:end].astype(np.int64), arrays["user_factor"][person], segment

    def _retrieve(self, plans: Sequence[Plan | RequestError], ask: Ask) -> list[tuple[Array, Array] | None]:
        """Ask the member for the rows that have a factor, all rows of one padded shape in one call."""
        groups: dict[tuple[int, int], list[tuple[int, Plan]]] = defaultdict(list)
        for position, plan in enumerate(plans):
            if isinstance(plan, Plan) and plan.factor is not None and (plan.allow is None or len(plan.allow)):
                num_allowed = 0 if plan.allow is None else len(plan.allow)
                groups[bucket(len(plan.exclude)), bucket(num_allowed)].append((position, plan))
        found: list[tuple[Array, Array] | None] = [None] * len(plans)
        for (num_exclude, num_allow), members in groups.items():
            answer = ask("mf_retrieval", _member_inputs([p for _, p in members], num_exclude, num_allow))
            for (position, plan), index, score in zip(
                members, answer["ITEM_INDEX"], answer["SCORE"], strict=True
            ):
                shown = index >= 0
                found[position] = index[shown][: plan.k], score[shown][: plan.k]
        return found

    def _ranking(self, plan: Plan, found: tuple[Array, Array] | None) -> tuple[Array, Array]:
        if found is not None:
            return found
        if plan.factor is not None:  # personal, but nothing that the release knows is allowed
            return _NOTHING, np.empty(0, dtype=np.float32)
        index = self._items.popular(plan.k, plan.exclude, plan.allow, plan.segment)
        return index, self._items.popularity[index]

    def _answer(self, row: Row, plan: Plan, index: Array, score: Array) -> Answer:
        ids = self._items.ids
        return {
            "ITEM_ID": byte_strings([ids[i] for i in index.tolist()]),
            "SCORE": score.astype(np.float32),
            "REASON_CODE": byte_strings([plan.reason.encode()] * len(index)),
            "RELEASE": byte_strings([self._release]),
            "REQUEST_ID": byte_strings([(row.request_id or uuid.uuid4().hex).encode()]),
        }


def _member_inputs(plans: Sequence[Plan], num_exclude: int, num_allow: int) -> dict[str, Array]:
    allowed = [_NOTHING if plan.allow is None else plan.allow for plan in plans]
    return {
        "USER_FACTOR": np.stack([plan.factor for plan in plans if plan.factor is not None]),
        "EXCLUDE_ITEM": _padded([plan.exclude for plan in plans], num_exclude),
        "ALLOW_ITEM": _padded(allowed, num_allow),
        "K": np.full((len(plans), 1), max(plan.k for plan in plans), dtype=np.int64),
    }


def _padded(lists: Sequence[Array], length: int) -> Array:
    padded = np.full((len(lists), length), -1, dtype=np.int64)
    for row, values in zip(padded, lists, strict=True):
        row[: len(values)] = values
    return padded
