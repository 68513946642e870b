"""Files of a draft that tell the same orders, so that their money would count twice."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import polars as pl

from training.data.detection import sample_of
from training.data.readers import files_of
from training.data.sources import IngestError, load_sources

_LEAST_SHARED = 0.5  # of the orders of the file that has fewer


def shared_orders(sources_file: Path) -> list[str]:
    """Return a question for each two files of a sources file that have most order ids of one in common."""
    orders: dict[Path, pl.Series] = {}
    for source in load_sources(sources_file):
        own = source.own
        if source.derived or source.kind not in ("events", "orders") or "order_id" not in own.columns:
            continue
        for path in files_of(source):
            try:
                ids = sample_of(own, path)["order_id"].str.strip_chars()
            except IngestError:
                continue
            orders[path] = ids.filter(ids.str.len_chars() > 0).unique().sort()
    questions = []
    for (one, ours), (other, theirs) in combinations(orders.items(), 2):
        both = ours.filter(ours.is_in(theirs.implode()))
        fewest = min(ours.len(), theirs.len())
        if both.len() and both.len() >= _LEAST_SHARED * fewest:
            questions.append(
                f"asked: {one.name} and {other.name} have {both.len():,} of {fewest:,} order ids "
                f"in common, as {both[0]!r}: are they the same orders? then take the [[source]] of one out, "
                "or their money counts twice"
            )
    return questions
