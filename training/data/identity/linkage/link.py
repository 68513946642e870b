"""Links person records to clusters, one cluster per person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.identity.linkage.blocking import Candidates, candidate_pairs
from shopsight.training.data.identity.linkage.clusters import cluster
from shopsight.training.data.identity.linkage.comparisons import (
    AGREEING,
    DIFFERENT,
    EXACT,
    OTHER_BIRTH,
    SHARED,
    Encoded,
    compare,
    compare_field,
    encode,
    levels_of,
    with_level,
)
from shopsight.training.data.identity.linkage.fellegi_sunter import FellegiSunter, estimate
from shopsight.training.data.identity.linkage.households import SHAREABLE, Verdicts, judge, used_by_several
from shopsight.training.data.identity.linkage.normalise import normalise
from shopsight.training.data.identity.linkage.placeholders import Placeholder, without_placeholders
from shopsight.training.data.identity.linkage.relatives import Relatives, count_relatives, none_counted
from shopsight.training.data.identity.linkage.threshold import (
    Choice,
    Expected,
    choose_threshold,
    estimated_curve,
    expected_precision,
)

Rows = NDArray[np.int64]
Pattern = NDArray[np.int64]

_BATCH_PAIRS = 2_000_000
# Fields whose common values say less than rare ones.
_FREQUENCY_FIELDS = ("given", "family", "city")
# Keys that decide alone, strongest first, each with what guards it (see _deterministic).
_KEYS = ("loyalty", "gov_id", "email", "phone")
SAID = "review"  # the rule of a pair that people decided
_SURE = 0.9999  # of pairs with a key in common
_SHOWN = 1e-3  # pairs less likely than this are not kept
_MAX_CHAINS, _LARGEST_PERSON = 5, 60
_HOUSEHOLD = 6  # records; more behind one mail address may be a desk's or a firm's


Method = Literal["likeness", "keys", "off"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class LinkageConfig:
    """threshold: the least probability of a match that joins two records, None to choose it by the expected
    precision and recall (threshold.py); min_precision: what that choice keeps to; max_block: blocking.py.

    method: "likeness" reads all fields, "keys" joins by equal numbers, mails and phones alone (guarded by
    name and birth), "off" joins nothing but what people said in a review.
    """

    threshold: float | None = None
    min_precision: float = 0.99
    max_block: int = 60
    method: Method = "likeness"


@dataclass(frozen=True)
class Said:
    """What people said of pairs of records [k, 2]: they are one person, or they are not."""

    same: Rows = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    apart: Rows = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))


@dataclass(frozen=True)
class Linkage:
    """Scored pairs (left < right) and the clusters that they make at the configured threshold.

    pattern: the levels of each pair (comparisons.py); clusters: [n] numbers from 0 by first record; rule,
    score: [n], the strongest edge of each record inside its cluster ("single" with 1.0 for a record alone);
    apart: pairs that cannot be one person; choice: the threshold, why, and the expected curve; precision: the
    expected share of right pairs among those joined, with its interval; ignored: values that are no evidence.
    """

    left: Rows
    right: Rows
    probability: NDArray[np.float64]
    pattern: Pattern
    pair_rule: NDArray[np.str_]
    apart: tuple[Rows, Rows]
    clusters: Rows
    rule: NDArray[np.str_]
    score: NDArray[np.float64]
    choice: Choice
    precision: Expected
    model: FellegiSunter | None = None
    skipped_blocks: dict[str, int] = field(default_factory=dict)
    ignored: tuple[Placeholder, ...] = ()

    def clusters_at(self, threshold: float) -> Rows:
        """The clusters at another threshold of the match probability."""
        strong = self.probability >= threshold
        edges = self.left[strong], self.right[strong], self.probability[strong]
        return cluster(self.clusters.size, *edges, self.apart)


def link(records: pl.DataFrame, config: LinkageConfig | None = None, said: Said | None = None) -> Linkage:
    """Link person records (columns of PERSON_FIELDS, any subset) that are the same person.

    Deterministic keys first (loyalty and government number, mail, phone: guarded by name and birth date),
    then the Fellegi-Sunter model over all candidate pairs, less the share of relatives among pairs like them,
    then clusters. What people said of a pair stands above all. Equal records in equal order give equal
    results.
    """
    config, said = config or LinkageConfig(), said or Said()
    people, ignored = without_placeholders(normalise(records))
    encoded = encode(people)
    pairs = candidate_pairs(encoded, config.max_block, extra=np.concatenate((said.same, said.apart)))
    scored = _score(encoded, pairs.left, pairs.right)
    probability, rule, apart = _obey(pairs, scored, config.method, said)
    choice = _choice(probability[rule != SAID], config)
    strong = probability >= choice.threshold
    edges = pairs.left[strong], pairs.right[strong], probability[strong]
    clusters, enemies = _clusters(encoded, edges, (pairs.left[apart], pairs.right[apart]), scored.shared)
    inside = strong & (clusters[pairs.left] == clusters[pairs.right])
    by, score = _strongest(records.height, pairs, probability, rule, inside)
    kept = (probability > _SHOWN) & ~apart
    return Linkage(
        left=pairs.left[kept],
        right=pairs.right[kept],
        probability=probability[kept],
        pattern=scored.pattern[kept],
        pair_rule=rule[kept],
        apart=enemies,
        clusters=clusters,
        rule=by,
        score=score,
        choice=choice,
        precision=expected_precision(
            clusters, scored.pattern[inside], probability[inside], rule[inside] == SAID, scored.relatives
        ),
        model=scored.model,
        skipped_blocks=pairs.skipped_blocks,
        ignored=tuple(ignored),
    )


@dataclass(frozen=True)
class _Scored:
    """What is known of each candidate pair: levels, probability, deterministic rule, verdict."""

    pattern: Pattern
    probability: NDArray[np.float64]
    rule: NDArray[np.str_]
    apart: NDArray[np.bool_]
    shared: dict[str, NDArray[np.bool_]]
    relatives: Relatives
    model: FellegiSunter | None


def _score(encoded: Encoded, left: Rows, right: Rows) -> _Scored:
    steps = range(0, left.size, _BATCH_PAIRS)
    parts = [compare(encoded, left[i : i + _BATCH_PAIRS], right[i : i + _BATCH_PAIRS]) for i in steps]
    pattern = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    shared = {name: used_by_several(encoded, pattern, left, name) for name in SHAREABLE}
    pattern = _with_shared(encoded, pattern, left, shared)
    verdicts = judge(pattern)
    model = estimate(encoded, pattern, verdicts.apart | verdicts.unsupported, shared) if left.size else None
    if model is None:
        return _Scored(
            pattern, np.zeros(0), _deterministic(pattern), verdicts.apart, shared, none_counted(), None
        )
    added = _frequency_adjustment(encoded, pattern, left, model)
    told, relatives = pattern, none_counted()
    if verdicts.is_told:
        probability = _combined(model.log_odds(pattern) + added, pattern, verdicts, relatives)
        told = _with_births(encoded, pattern, left, right, probability, verdicts)
        verdicts = judge(told)
        without_birth = _probability(model.log_odds(told) - model.log_odds_of(told, "birth") + added)
        other_name = levels_of(pattern, "given") == DIFFERENT["given"]
        # A pair that its own key made sure proves nothing of that key.
        seen = np.where(_has_key(pattern), pattern, told)
        relatives = count_relatives(seen, without_birth, ~other_name & ~verdicts.unsupported)
    probability = _combined(model.log_odds(told) + added, told, verdicts, relatives)
    return _Scored(told, probability, _deterministic(told), verdicts.apart, shared, relatives, model)


def _combined(
    odds: NDArray[np.float64], pattern: Pattern, verdicts: Verdicts, relatives: Relatives
) -> NDArray[np.float64]:
    probability, sure = _probability(odds), _deterministic(pattern) != "linkage"
    probability = np.where(sure, np.maximum(probability, _SURE), probability) * (1 - relatives.among(pattern))
    probability[verdicts.apart | verdicts.unsupported] = 0.0
    return probability


def _with_births(
    encoded: Encoded,
    pattern: Pattern,
    left: Rows,
    right: Rows,
    probability: NDArray[np.float64],
    verdicts: Verdicts,
) -> Pattern:
    """Patterns in which a record without a date of birth takes that of records of surely the same person."""
    sure = (probability >= _SURE) & _has_key(pattern)
    apart = left[verdicts.apart], right[verdicts.apart]
    people = cluster(encoded.height, left[sure], right[sure], probability[sure], apart)
    births = encoded.codes["birth"]
    known = np.full(int(people.max()) + 1, -1, dtype=np.int32)
    known[people[births >= 0]] = births[births >= 0]
    filled = replace(encoded, codes=encoded.codes | {"birth": np.where(births >= 0, births, known[people])})
    silent = levels_of(pattern, "birth") == 0
    levels = np.zeros(left.size, dtype=np.int64)
    levels[silent] = compare_field(filled, "birth", left[silent], right[silent])
    return with_level(pattern, "birth", levels, silent)


def _has_key(pattern: Pattern) -> NDArray[np.bool_]:
    keys: NDArray[np.bool_] = np.logical_or.reduce([levels_of(pattern, name) == EXACT for name in _KEYS])
    return keys


def _probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(odds, -500, 500)))
    return result


def _with_shared(
    encoded: Encoded, pattern: Pattern, left: Rows, shared: dict[str, NDArray[np.bool_]]
) -> Pattern:
    for name, flags in shared.items():
        both = (levels_of(pattern, name) == EXACT) & flags[encoded.codes[name][left]]
        if name == "email":
            both &= ~_is_named_in_household(encoded, pattern, left)
        pattern = with_level(pattern, name, SHARED, both)
    return pattern


def _is_named_in_household(encoded: Encoded, pattern: Pattern, left: Rows) -> NDArray[np.bool_]:
    """Pairs with one household's mail address and one whole name, which nobody else there bears."""
    codes = encoded.codes["email"]
    namesakes = np.logical_and.reduce(
        [levels_of(pattern, name) == EXACT for name in ("given", "family", "email")]
    )
    other_birth = levels_of(pattern, "birth") >= OTHER_BIRTH
    size = max(len(encoded.texts["email"]), 1)
    is_household = np.bincount(codes[codes >= 0], minlength=size) <= _HOUSEHOLD
    is_household[codes[left[namesakes & other_birth]]] = False  # father and son of one name
    found: NDArray[np.bool_] = namesakes & ~other_birth & is_household[codes[left]]
    return found


def _obey(
    pairs: Candidates, scored: _Scored, method: str, said: Said
) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.bool_]]:
    """Probability, rule and verdict of each pair as the method and the reviews have them."""
    probability, rule, apart = scored.probability.copy(), scored.rule.copy(), scored.apart.copy()
    if method != "likeness":
        probability[(rule == "linkage") | (method == "off")] = 0.0
    for one, value in ((said.same, 1.0), (said.apart, 0.0)):
        place = pairs.places(one)
        probability[place], rule[place], apart[place] = value, SAID, value == 0.0
    return probability, rule, apart


def _clusters(
    encoded: Encoded,
    edges: tuple[Rows, Rows, NDArray[np.float64]],
    apart: tuple[Rows, Rows],
    shared: dict[str, NDArray[np.bool_]],
) -> tuple[Rows, tuple[Rows, Rows]]:
    """The clusters, and all pairs kept apart: chains may bring together records that were never compared."""
    for _ in range(_MAX_CHAINS):
        clusters = cluster(encoded.height, *edges, apart)
        left, right = _pairs_inside(clusters)
        pattern = _with_shared(encoded, compare(encoded, left, right), left, shared)
        wrong = judge(pattern).apart & ~_among(left, right, edges, encoded.height)
        if not wrong.any():
            break
        apart = np.concatenate((apart[0], left[wrong])), np.concatenate((apart[1], right[wrong]))
    return clusters, apart


def _pairs_inside(clusters: Rows) -> tuple[Rows, Rows]:
    """Every pair of records (left < right) that share a cluster, in clusters as large as people."""
    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters)
    ordered = clusters[order]
    found_left, found_right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for distance in range(1, min(int(sizes.max(initial=0)), _LARGEST_PERSON)):
        same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        found_left.append(order[same])
        found_right.append(order[same + distance])
    return np.concatenate(found_left), np.concatenate(found_right)


def _among(
    left: Rows, right: Rows, edges: tuple[Rows, Rows, NDArray[np.float64]], height: int
) -> NDArray[np.bool_]:
    """Which pairs are certain edges: a review joined them, or a government number."""
    certain = edges[2] >= 1.0
    return np.isin(left * height + right, edges[0][certain] * height + edges[1][certain])


def _choice(probability: NDArray[np.float64], config: LinkageConfig) -> Choice:
    if config.threshold is None:
        return choose_threshold(probability, config.min_precision)
    return Choice(config.threshold, "set in the configuration", estimated_curve(probability))


def _deterministic(pattern: Pattern) -> NDArray[np.str_]:
    """The key that joins a pair on its own, or "linkage"."""
    given, birth = levels_of(pattern, "given"), levels_of(pattern, "birth")
    family_differs = levels_of(pattern, "family") == DIFFERENT["family"]
    other_birth = birth >= OTHER_BIRTH
    name_agrees = np.isin(given, AGREEING) & ~other_birth
    name_silent = given == 0
    birth_agrees = (birth > 0) & ~other_birth
    rule = np.full(pattern.size, "linkage", dtype="<U8")
    for key in reversed(_KEYS):
        guard = name_agrees | birth_agrees
        guard = guard & ~family_differs if key == "phone" else guard | (name_silent & (birth == 0))
        rule[(levels_of(pattern, key) == EXACT) & guard] = key
    return rule


def _frequency_adjustment(
    encoded: Encoded, pattern: Pattern, left: Rows, model: FellegiSunter
) -> NDArray[np.float64]:
    """Natural log odds added for exact agreement on a value rarer than the average one (or taken away)."""
    added = np.zeros(pattern.size)
    for name in _FREQUENCY_FIELDS:
        codes = encoded.codes[name]
        frequency = np.bincount(codes[codes >= 0], minlength=1) / max((codes >= 0).sum(), 1)
        exact = levels_of(pattern, name) == EXACT
        added[exact] += np.log(model.u[name][EXACT]) - np.log(frequency[codes[left[exact]]])
    return added


def _strongest(
    height: int,
    pairs: Candidates,
    probability: NDArray[np.float64],
    pair_rule: NDArray[np.str_],
    inside: NDArray[np.bool_],
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """The rule and the probability of each record's strongest edge inside its cluster."""
    rule, score = np.full(height, "single", dtype="<U8"), np.ones(height)
    order = np.argsort(probability[inside], kind="stable")
    for side in (pairs.left, pairs.right):
        ends, values = side[inside][order], probability[inside][order]
        better = (rule[ends] == "single") | (values > score[ends])
        # Ascending order: the last write for a record is its strongest edge.
        rule[ends[better]] = pair_rule[inside][order][better]
        score[ends[better]] = values[better]
    return rule, score
