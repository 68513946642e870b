"""Drift of the messages: changes of the intents' shares, and new groups that no known intent covers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import LANGUAGE, permitted
from shopsight.training.data.period import period
from shopsight.training.language.checkpoint import LanguageModel
from shopsight.training.language.corpus import author_codes
from shopsight.training.language.metrics import accuracy
from shopsight.training.language.tokenizer import normalizer

Array = NDArray[np.float64]

OUTSIDE = "none of the known"
RECENT = timedelta(weeks=4)
_LEAST_MOVE = 0.01  # of a share: smaller changes are not reported, even if significant
_LEAST_GROUP, _GROUP_SHARE = 8, 0.02
_LEAST_AUTHORS = 5  # a word that fewer people use may be a name
_MOST_READ, _DIMENSIONS, _WORDS = 4_000, 50, 5


@dataclass(frozen=True)
class Read:
    """Messages with their predicted intents, by time: text, timestamp, customer_id, intent (or OUTSIDE)."""

    frame: pl.DataFrame

    @property
    def is_recent(self) -> pl.Expr:
        """Whether a message is from the last four weeks."""
        found = period(self.frame.lazy())
        assert found is not None
        return pl.col("timestamp") > pl.lit(found[1]) - RECENT


def read(workspace: Workspace, model: LanguageModel) -> Read:
    """Read all messages, except reviews, and predict their intents."""
    written = permitted(workspace, "messages", LANGUAGE).filter(
        pl.col("rating").is_null(), pl.col("text").str.strip_chars() != "", pl.col("timestamp").is_not_null()
    )
    days = period(written)
    if days is not None:  # a message dated by a wrong clock belongs to no week
        written = written.filter(pl.col("timestamp").is_between(*days))
    columns = ["message_id", "timestamp", "text", "customer_id"]
    frame = written.select(columns).collect().sort("timestamp", "message_id")
    said = model.predict(frame["text"].to_list())
    inside = model.in_scope(said)
    intent = [name if ok else OUTSIDE for name, ok in zip(said.labels("intent"), inside, strict=True)]
    return Read(frame.with_columns(intent=pl.Series(intent, dtype=pl.String)))


def drift(workspace: Workspace, model: LanguageModel) -> dict[str, Any]:
    """Return changes of the intents' shares in the last four weeks, and new groups of messages.

    The keys are recent_days, those of `intent_drift`, and groups (see `groups`).
    """
    found = read(workspace, model)
    if found.frame.is_empty():
        return {"recent_days": RECENT.days, "shares": [], "weeks": [], "psi": None, "groups": []}
    return {"recent_days": RECENT.days, **intent_drift(found), "groups": groups(found)}


def intent_drift(found: Read) -> dict[str, Any]:
    """Return each intent's share before and in the last four weeks, and the weekly out-of-scope share.

    moved: the difference is significant by a two-proportion z-test at 5 % over all intents (Bonferroni) and
    at least 0.01. psi: the population stability index, None without messages in both periods; values above
    0.25 are commonly taken as a shift.
    """
    counts = found.frame.group_by("intent", found.is_recent.alias("recent")).len()
    total = {recent: int(counts.filter(recent=recent)["len"].sum()) for recent in (False, True)}
    if not all(total.values()):
        return {"shares": [], "weeks": [], "psi": None}
    shares = []
    names = sorted(set(found.frame["intent"]))
    for name in names:
        n = {r: int(counts.filter(intent=name, recent=r)["len"].sum()) for r in (False, True)}
        before, late = n[False] / total[False], n[True] / total[True]
        sure = _p_value(n[False], total[False], n[True], total[True]) < 0.05 / len(names)
        moved = bool(sure and abs(late - before) >= _LEAST_MOVE)
        shares.append({"intent": name, "before": before, "recent": late, "moved": moved})
    smoothed = [((s["before"] + 1e-4), (s["recent"] + 1e-4)) for s in shares]
    return {
        "num_before": total[False],
        "num_recent": total[True],
        "shares": sorted(shares, key=lambda s: s["before"] - s["recent"]),
        "psi": float(sum((late - before) * math.log(late / before) for before, late in smoothed)),
        "weeks": _weeks(found),
    }


def groups(found: Read) -> list[dict[str, Any]]:
    """Return groups of similar recent messages that no known intent covers, the fastest growing first.

    Each is {size, share: of the recent out-of-scope messages, recent_a_week and before_a_week: similar
    messages per week, words: words that are more frequent in the group than elsewhere}. For privacy, texts
    are never returned, and neither are words or groups of fewer than five authors. The method is HDBSCAN
    (Campello et al. 2013) on TF-IDF vectors of words after latent semantic analysis.
    """
    outside = found.frame.filter(pl.col("intent") == OUTSIDE)
    late = outside.filter(found.is_recent).tail(_MOST_READ)
    if late.height < 2 * _LEAST_GROUP:
        return []
    authors = author_codes(late["customer_id"])
    vectors, words = _vectors(found.frame["text"].to_list(), late["text"].to_list(), authors)
    least = max(_LEAST_GROUP, round(_GROUP_SHARE * late.height))
    place = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(vectors)
    earlier = outside.filter(~found.is_recent)
    before = author_codes(earlier["customer_id"])
    vectors_before, _ = _vectors(found.frame["text"].to_list(), earlier["text"].to_list(), before)
    weeks_before = max(1.0, _span_days(found) / 7 - RECENT.days / 7)
    told = []
    for group in range(place.max() + 1):
        members = np.flatnonzero(place == group)
        if len(np.unique(authors[members])) < _LEAST_AUTHORS:
            continue
        centre = _unit(vectors[members].mean(axis=0)[None])[0]
        near = vectors[members] @ centre
        like = int((vectors_before @ centre >= np.quantile(near, 0.1)).sum())
        told.append({
            "size": len(members),
            "share": len(members) / late.height,
            "recent_a_week": len(members) / (RECENT.days / 7),
            "before_a_week": like / weeks_before,
            "words": words(members),
        })  # fmt: skip
    return sorted(told, key=lambda group: float(group["before_a_week"]) - float(group["recent_a_week"]))


def _vectors(corpus: list[str], texts: list[str], authors: NDArray[np.int64]) -> tuple[Array, Any]:
    """Return unit vectors float64 [texts, dimensions] in the space of `corpus`, and a function.

    The function returns the characteristic words of some of the texts. authors: int64 [texts].
    """
    clean = normalizer().normalize_str
    weigh = TfidfVectorizer(tokenizer=_terms, token_pattern=None, lowercase=False, min_df=2)
    known = weigh.fit_transform([clean(text) for text in corpus])
    dimensions = min(_DIMENSIONS, known.shape[1] - 1, known.shape[0] - 1)
    space = TruncatedSVD(max(1, dimensions), random_state=0).fit(known)
    rows = weigh.transform([clean(text) for text in texts])
    usual = np.asarray(known.mean(axis=0)).ravel()
    names = weigh.get_feature_names_out()

    def words(members: NDArray[np.int64]) -> list[str]:
        inside = rows[members].tocoo()
        more = np.asarray(inside.mean(axis=0)).ravel() - usual
        by_author = pl.DataFrame({"author": authors[members[inside.row]], "word": inside.col})
        counts = by_author.group_by("word").agg(pl.col("author").n_unique()).sort("word")
        common = counts.filter(pl.col("author") >= _LEAST_AUTHORS)["word"].to_numpy()
        return [str(names[i]) for i in common[np.argsort(-more[common], kind="stable")][:_WORDS]]

    if not len(texts):
        return np.empty((0, space.n_components)), words
    return _unit(space.transform(rows)), words


def _terms(text: str) -> list[str]:
    """Return the words of at least two letters, and the adjacent pairs of Chinese characters."""
    found: list[str] = []
    for part in text.split():
        word = "".join(c for c in part if c.isalpha() or c == "'")
        chinese = [c for c in part if "一" <= c <= "鿿"]
        found += [a + b for a, b in pairwise(chinese)] if chinese else []
        if not chinese and len(word) > 1:
            found.append(word)
    return found


def _unit(rows: Array) -> Array:
    scaled: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _weeks(found: Read) -> list[dict[str, Any]]:
    """Return the out-of-scope share of each week with its 95 % Wilson interval."""
    week = pl.col("timestamp").dt.truncate("1w").alias("week")
    counted = found.frame.group_by(week).agg(pl.len(), outside=(pl.col("intent") == OUTSIDE).sum())
    told = []
    for start, rows, outside in counted.sort("week").select("week", "len", "outside").iter_rows():
        said = np.zeros(rows, dtype=np.int64)
        said[:outside] = 1
        share = accuracy(np.ones(rows, dtype=np.int64), said)
        told.append({"week": start.date().isoformat(), "messages": rows, **share})
    return told


def _p_value(k0: int, n0: int, k1: int, n1: int) -> float:
    """Return the two-sided p-value of the pooled two-proportion z-test."""
    pooled = (k0 + k1) / (n0 + n1)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))
    return float(2 * norm.sf(abs(k1 / n1 - k0 / n0) / spread)) if spread else 1.0


def _span_days(found: Read) -> float:
    first, last = found.frame["timestamp"].min(), found.frame["timestamp"].max()
    return float((last - first) / timedelta(days=1))  # type: ignore[operator]
