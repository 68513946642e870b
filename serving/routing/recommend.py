"""The recommend router: finds the customer, retrieves and filters items, and ranks them."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shopsight.serving.pseudonym import PseudonymKey, load_key
from shopsight.serving.routing.blend import RECENT, Blender, Taste, padded, varied
from shopsight.serving.routing.history import Folder, HistoryReader
from shopsight.serving.routing.items import Items
from shopsight.serving.routing.limits import check_bounds
from shopsight.serving.routing.people import UNKNOWN, People
from shopsight.serving.routing.rows import RequestError, Row, bucket, byte_strings, each
from shopsight.serving.routing.settings import Settings
from shopsight.serving.routing.tensors import RECOMMEND

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
Reason = Literal["personal", "folded_in", "recent", "new", "popular_in_segment", "popular"]

DEFAULT_K = 10
_VARIED_DEPTH = 5  # with a limit per category, this many times more items are retrieved
_NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    """How one row is answered: with a factor for the member, or None if popularity answers.

    depth: how many items are retrieved. taste: the input of the embedding members, None if they are not
    called. suppressed: why there are no recommendations, "" otherwise.
    """

    k: int
    depth: int
    exclude: Array
    allow: Array | None
    reason: Reason = "popular"
    factor: Array | None = None
    segment: int = -1
    taste: Taste | None = None
    suppressed: str = ""


@dataclass(frozen=True)
class Ranked:
    """Items with their scores and reasons, best first."""

    index: Array
    score: Array
    reason: tuple[str, ...]


class RecommendRouter:
    """Answers `recommend` rows; one call of the member for all rows of equal padded shape.

    Data: customers.safetensors with customer_id, user_factor float32 [n, f], seen_indptr int64 [n + 1],
    seen_item int32, and optionally segment int32 [n] (-1: none) and personalised uint8 [n] (0: this customer
    forbids it, and gets what PERSONALISED = false gets); identities.safetensors; items.safetensors.
    preprocessing: event_weights, half_life_days and half_life_steps (see history.py), the settings
    of `Folder`, filter_viewed (whether seen_item, and what a history bought and kept, is left out), key_id,
    max_per_category (items of a category in a list, 0 for no limit), and blend (serving/routing/blend.py),
    None in a release without embedding members. REASON_CODE says which proposer ranked an item highest:
    "personal" and "folded_in" the factorisation, "recent" the two towers, the others popularity; "new" is an
    item without events, known by its content. SUPPRESSED says why a customer who needs help first gets no
    recommendations: preprocessing["suppressed"] names the codes of suppressed uint8 [n], 0 for none. Unknown
    items are ignored in HISTORY_ITEM and EXCLUDE; an ALLOW with unknown items only allows nothing.
    """

    def __init__(self, folder: Path, release: str, load_key: Callable[[], PseudonymKey] = load_key) -> None:
        preprocessing = Settings.read(folder)
        self._release = release.encode()
        self._people = People(folder, load_key, preprocessing.get("key_id", ""))
        self._items = Items(folder)
        self._history = HistoryReader(self._items, preprocessing)
        self._folder = Folder(self._items.factor, preprocessing)
        self._filter_viewed = bool(preprocessing["filter_viewed"])
        self._most = int(preprocessing.get("max_per_category", 0))
        self._suppressions = ["", *preprocessing.get("suppressed", [])]
        blend = preprocessing.get("blend")
        self._blender = Blender(self._items, self._people.arrays, blend) if blend else None

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        plans = each(self._plan, rows)
        lists = each(self._ranking, plans, self._retrieve(plans, ask))
        if self._blender is not None:
            lists = self._blended(self._blender, plans, lists, ask)
        return each(self._answer, plans, rows, lists)

    def _plan(self, row: Row) -> Plan:
        check_bounds(row, RECOMMEND.inputs)
        allowed = [item for item in row.texts("ALLOW") if item]
        k = min(row.number("K", DEFAULT_K), len(self._items))
        plan = Plan(
            k=k,
            depth=min(len(self._items), k * _VARIED_DEPTH) if self._most else k,
            exclude=self._items.indices_of(row.texts("EXCLUDE")),
            allow=self._items.indices_of(allowed) if allowed else None,
        )
        return self._personal(row, plan) if row.flag("PERSONALISED", True) else plan

    def _personal(self, row: Row, plan: Plan) -> Plan:
        history = self._history.read(row)
        person = self._people.row_of(row)
        if not self._allows(person):
            return plan
        if (why := self._suppressed(person)) != "":
            return replace(plan, allow=_NOTHING, suppressed=why)
        seen, factor, segment = self._known(person)
        if self._filter_viewed:
            plan = replace(plan, exclude=np.unique(np.concatenate([plan.exclude, seen, history.bought])))
        if self._blender is not None and len((taste := self._blender.taste(row, person)).history):
            plan = replace(plan, taste=taste, depth=max(plan.depth, self._blender.num_candidates))
        plan = replace(plan, segment=segment)
        if factor.any():
            return replace(plan, reason="personal", factor=factor)
        folded = self._folder.fold_in(history)
        if folded.any():
            return replace(plan, reason="folded_in", factor=folded)
        return replace(plan, reason="popular_in_segment") if segment >= 0 else plan

    def _allows(self, person: int) -> bool:
        arrays = self._people.arrays
        return person == UNKNOWN or "personalised" not in arrays or bool(arrays["personalised"][person])

    def _suppressed(self, person: int) -> str:
        codes = self._people.arrays.get("suppressed")
        return "" if codes is None or person == UNKNOWN else self._suppressions[int(codes[person])]

    def _known(self, person: int) -> tuple[Array, Array, int]:
        if person == UNKNOWN:
            return _NOTHING, np.zeros(0, dtype=np.float32), -1
        arrays = self._people.arrays
        begin, end = arrays["seen_indptr"][person : person + 2]
        segment = int(arrays["segment"][person]) if "segment" in arrays else -1
        return arrays["seen_item"][begin:end].astype(np.int64), arrays["user_factor"][person], segment

    def _retrieve(self, plans: Sequence[Plan | RequestError], ask: Ask) -> list[tuple[Array, Array] | None]:
        """Call the member for the rows that have a factor, once for all rows of the same padded shape."""
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
                found[position] = index[shown][: plan.depth], score[shown][: plan.depth]
        return found

    def _ranking(self, plan: Plan, found: tuple[Array, Array] | None) -> Ranked:
        if found is not None:
            index, score = found
        elif plan.factor is not None:  # personal, but no known item is allowed
            index, score = _NOTHING, np.empty(0, dtype=np.float32)
        else:
            index = self._items.popular(plan.depth, plan.exclude, plan.allow, plan.segment)
            score = self._items.popularity[index]
        return Ranked(index, score, (plan.reason,) * len(index))

    def _blended(
        self,
        blender: Blender,
        plans: Sequence[Plan | RequestError],
        lists: Sequence[Ranked | RequestError],
        ask: Ask,
    ) -> list[Ranked | RequestError]:
        """Return the lists; for rows with a taste, the fused ranking of all proposers replaces theirs."""
        answer = list(lists)
        chosen = [
            (place, plan, plan.taste, one)
            for place, (plan, one) in enumerate(zip(plans, lists, strict=True))
            if isinstance(plan, Plan) and isinstance(one, Ranked) and plan.taste is not None
            if plan.allow is None or len(plan.allow)
        ]
        tastes = [taste for _, _, taste, _ in chosen]
        towers = blender.retrieve(
            tastes, [plan.exclude for _, plan, _, _ in chosen], [plan.allow for _, plan, _, _ in chosen], ask
        )
        proposals = [
            blender.joined(
                [
                    (plan.reason, "factorised" if plan.factor is not None else "popular", one.index),
                    (RECENT, "towers", recent),
                    (*self._popular(plan, blender.num_candidates),),
                ]
            )
            for (_, plan, _, one), recent in zip(chosen, towers, strict=True)
        ]
        proposals = [proposal.only(self._items.sellable) for proposal in proposals]
        scores = blender.scores(tastes, [proposal.item for proposal in proposals], ask)
        for (place, _, _, _), proposal, score in zip(chosen, proposals, scores, strict=True):
            order, fused = blender.ordered(proposal, score)
            reasons = tuple(proposal.reason[i] for i in order.tolist())
            answer[place] = Ranked(proposal.item[order], fused, reasons)
        return answer

    def _popular(self, plan: Plan, num: int) -> tuple[str, str, Array]:
        reason: Reason = "popular_in_segment" if plan.segment >= 0 else "popular"
        return reason, "popular", self._items.popular(num, plan.exclude, plan.allow, plan.segment)

    def _cut(self, ranked: Ranked, plan: Plan) -> Ranked:
        places = varied(self._items.category[ranked.index], self._most, plan.k)
        index = ranked.index[places]
        named = zip(self._items.cold[index].tolist(), (ranked.reason[i] for i in places), strict=True)
        return Ranked(index, ranked.score[places], tuple("new" if cold else why for cold, why in named))

    def _answer(self, plan: Plan, row: Row, ranked: Ranked) -> Answer:
        ids, shown = self._items.ids, self._cut(ranked, plan)
        return {
            "ITEM_ID": byte_strings([ids[i] for i in shown.index.tolist()]),
            "SCORE": shown.score.astype(np.float32),
            "REASON_CODE": byte_strings([reason.encode() for reason in shown.reason]),
            "SUPPRESSED": byte_strings([plan.suppressed.encode()]),
            "RELEASE": byte_strings([self._release]),
            "REQUEST_ID": byte_strings([(row.request_id or uuid.uuid4().hex).encode()]),
        }


def _member_inputs(plans: Sequence[Plan], num_exclude: int, num_allow: int) -> dict[str, Array]:
    allowed = [_NOTHING if plan.allow is None else plan.allow for plan in plans]
    return {
        "USER_FACTOR": np.stack([plan.factor for plan in plans if plan.factor is not None]),
        "EXCLUDE_ITEM": padded([plan.exclude for plan in plans], num_exclude),
        "ALLOW_ITEM": padded(allowed, num_allow),
        "K": np.full((len(plans), 1), max(plan.depth for plan in plans), dtype=np.int64),
    }
