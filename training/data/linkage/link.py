"""Records of people to clusters of records, one cluster a person."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.linkage.blocking import candidate_pairs
from training.data.linkage.clusters import cluster
from training.data.linkage.comparisons import (
    DIFFERENT,
    EXACT,
    SHARED,
    Encoded,
    compare,
    encode,
    levels_of,
    with_level,
)
from training.data.linkage.fellegi_sunter import FellegiSunter, estimate
from training.data.linkage.households import judge, used_by_several
from training.data.linkage.normalise import normalise
from training.data.linkage.threshold import Choice, choose_threshold, estimated_curve

Rows = NDArray[np.int64]
Pattern = NDArray[np.int64]

_BATCH_PAIRS = 2_000_000
# Fields whose common values say less than rare ones.
_FREQUENCY_FIELDS = ("given", "family", "city")
# Keys that decide alone, strongest first, each with what guards it (see _deterministic).
_KEYS = ("loyalty", "gov_id", "email", "phone")


@dataclass(frozen=True)
class LinkageConfig:
    """threshold: the least probability of a match that joins two records, None to choose it by the expected
    precision and recall (threshold.py); min_precision: what that choice keeps to; max_block: blocking.py.
    """

    threshold: float | None = None
    min_precision: float = 0.9999
    max_block: int = 60


@dataclass(frozen=True)
class Linkage:
    """Scored pairs (left < right) and the clusters that they make at the configured threshold.

    clusters: [n] numbers from 0 by first record; rule, score: [n], the strongest edge of each record inside
    its cluster ("single" with 1.0 for a record alone); apart: pairs that cannot be one person; choice: the
    threshold, why, and the expected curve.
    """

    left: Rows
    right: Rows
    probability: NDArray[np.float64]
    pair_rule: NDArray[np.str_]
    apart: tuple[Rows, Rows]
    clusters: Rows
    rule: NDArray[np.str_]
    score: NDArray[np.float64]
    choice: Choice
    model: FellegiSunter | None = None
    skipped_blocks: dict[str, int] = field(default_factory=dict)

    def clusters_at(self, threshold: float) -> Rows:
        """The clusters at another threshold of the match probability."""
        strong = self.probability >= threshold
        edges = self.left[strong], self.right[strong], self.probability[strong]
        return cluster(self.clusters.size, *edges, self.apart)


def link(records: pl.DataFrame, config: LinkageConfig | None = None) -> Linkage:
    """Link person records (columns of PERSON_FIELDS, any subset) that are the same person.

    Deterministic keys first (loyalty and government number, mail, phone: guarded by name and birth date),
    then the Fellegi-Sunter model over all candidate pairs, then clusters. Equal records in equal order give
    equal results.
    """
    config = config or LinkageConfig()
    encoded = encode(normalise(records))
    pairs = candidate_pairs(encoded, config.max_block)
    if not pairs.left.size:
        return _unlinked(records.height, config, pairs.skipped_blocks)
    left, right = pairs.left, pairs.right
    steps = range(0, left.size, _BATCH_PAIRS)
    parts = [compare(encoded, left[i : i + _BATCH_PAIRS], right[i : i + _BATCH_PAIRS]) for i in steps]
    pattern = np.concatenate(parts)
    shared = {name: used_by_several(encoded, pattern, left, name) for name in ("email", "phone")}
    for name, flags in shared.items():
        both = levels_of(pattern, name) == EXACT
        pattern = with_level(pattern, name, SHARED, both & flags[encoded.codes[name][left]])
    verdicts = judge(pattern)
    model = estimate(encoded, pattern, verdicts.apart | verdicts.unsupported, shared)
    odds = model.log_odds(pattern) + _frequency_adjustment(encoded, pattern, left, model)
    probability = 1.0 / (1.0 + np.exp(-np.clip(odds, -500, 500)))
    rule = _deterministic(pattern)
    probability = np.where(rule != "linkage", np.maximum(probability, 0.9999), probability)
    probability[verdicts.apart | verdicts.unsupported] = 0.0
    choice = _choice(probability, config)
    return _clustered(
        records.height, left, right, probability, rule, verdicts.apart, model, choice, pairs.skipped_blocks
    )


def _choice(probability: NDArray[np.float64], config: LinkageConfig) -> Choice:
    if config.threshold is None:
        return choose_threshold(probability, config.min_precision)
    return Choice(config.threshold, "set in the configuration", estimated_curve(probability))


def _deterministic(pattern: Pattern) -> NDArray[np.str_]:
    """The key that joins a pair on its own, or "linkage"."""
    given, birth = levels_of(pattern, "given"), levels_of(pattern, "birth")
    name_agrees = (given > 0) & (given < DIFFERENT["given"])
    name_silent = given == 0
    birth_agrees = (birth > 0) & (birth < DIFFERENT["birth"])
    rule = np.full(pattern.size, "linkage", dtype="<U8")
    for key in reversed(_KEYS):
        guard = name_agrees | birth_agrees
        if key != "phone":
            guard |= name_silent & (birth == 0)
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


def _clustered(
    height: int,
    left: Rows,
    right: Rows,
    probability: NDArray[np.float64],
    pair_rule: NDArray[np.str_],
    apart: NDArray[np.bool_],
    model: FellegiSunter,
    choice: Choice,
    skipped: dict[str, int],
) -> Linkage:
    strong = probability >= choice.threshold
    enemies = left[apart], right[apart]
    clusters = cluster(height, left[strong], right[strong], probability[strong], enemies)
    inside = strong & (clusters[left] == clusters[right])
    rule, score = np.full(height, "single", dtype="<U8"), np.ones(height)
    order = np.argsort(probability[inside], kind="stable")
    for side in (left, right):
        ends, values = side[inside][order], probability[inside][order]
        better = (rule[ends] == "single") | (values > score[ends])
        # Ascending order: the last write for a record is its strongest edge.
        rule[ends[better]] = pair_rule[inside][order][better]
        score[ends[better]] = values[better]
    kept = (probability > 1e-3) & ~apart
    return Linkage(
        left[kept],
        right[kept],
        probability[kept],
        pair_rule[kept],
        enemies,
        clusters,
        rule,
        score,
        choice,
        model,
        skipped,
    )


def _unlinked(height: int, config: LinkageConfig, skipped: dict[str, int]) -> Linkage:
    none = np.zeros(0, dtype=np.int64)
    single = np.full(height, "single", dtype="<U8")
    return Linkage(
        none,
        none,
        np.zeros(0),
        single[:0],
        (none, none),
        np.arange(height),
        single,
        np.ones(height),
        _choice(np.zeros(0), config),
        None,
        skipped,
    )
