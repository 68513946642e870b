"""The joined pairs of the last ingest, least certain first, for review."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.identity.linkage import Linkage
from shopsight.training.data.identity.linkage.comparisons import DIFFERENT, EXACT, FIELDS, SHARED, levels_of
from shopsight.training.data.identity.rules import (
    PAIR,
    RULES_FILE,
    RuleError,
    named,
    read_pairs,
    read_rules,
    without_accounts,
    write_private,
)

JOINS_FILE = "identity_joins.parquet"
_MOST_JOINS = 5_000


def read_joins(folder: Path, key: PseudonymKey) -> pl.DataFrame:
    """Return the joined pairs of the last ingest, the least certain first: see `joins_of`."""
    return read_pairs(folder / JOINS_FILE, key, joins_of(None, pl.DataFrame()))


def listed_pairs(folder: Path, key: PseudonymKey, names: list[str]) -> pl.DataFrame:
    """Return the accounts (PAIR) of the named pairs, of the last ingest or of a rule; raises RuleError."""
    known = [frame.select("pair", *PAIR) for frame in (read_joins(folder, key), read_rules(folder, key))]
    found = pl.concat(known).unique("pair", maintain_order=True)
    if unknown := sorted(set(names) - set(found["pair"])):
        raise RuleError(
            f"{', '.join(unknown)}: no such pair; 'shopsight identity review' lists the pairs, "
            "and --accounts takes any two accounts"
        )
    return found.filter(pl.col("pair").is_in(names)).select(PAIR)


def erase_pairs(folder: Path, accounts: set[tuple[str, str]], key: PseudonymKey) -> int:
    """Remove rules and listed pairs that name one of these (source, pseudonym); returns how many."""
    removed = 0
    for name, read in ((RULES_FILE, read_rules), (JOINS_FILE, read_joins)):
        rows = read(folder, key)
        kept = without_accounts(rows, accounts)
        removed += rows.height - kept.height
        if kept.height < rows.height:
            write_private(folder / name, kept)
    return removed


def joins_of(linkage: Linkage | None, known: pl.DataFrame) -> pl.DataFrame:
    """Return the joined pairs, the least certain first: pair, customer_id, the two accounts as pseudonyms,
    key_id, probability, rule and the evidence in words, which names fields and no value.
    """
    schema = {
        "pair": pl.String, "customer_id": pl.String, **dict.fromkeys((*PAIR, "key_id"), pl.String),
        "probability": pl.Float64, "rule": pl.String, "evidence": pl.String,
    }  # fmt: skip
    if linkage is None or not linkage.left.size:
        return pl.DataFrame(schema=schema)
    joined = linkage.probability >= linkage.choice.threshold
    joined &= linkage.clusters[linkage.left] == linkage.clusters[linkage.right]
    rows = np.flatnonzero(joined)
    rows = rows[np.argsort(linkage.probability[rows], kind="stable")][:_MOST_JOINS]
    sides = [known[side[rows]] for side in (linkage.left, linkage.right)]
    pattern = linkage.pattern[rows]
    levels = {name: levels_of(pattern, name).tolist() for name in FIELDS}
    evidence = [
        ", ".join(_word(name, levels[name][i]) for name in FIELDS if levels[name][i])
        for i in range(rows.size)
    ]
    frame = pl.DataFrame(
        {
            "customer_id": sides[0]["customer_id"],
            "source": sides[0]["source"],
            "source_id": sides[0]["pseudonym"],
            "other_source": sides[1]["source"],
            "other_source_id": sides[1]["pseudonym"],
            "key_id": sides[0]["key_id"],
            "probability": linkage.probability[rows],
            "rule": linkage.pair_rule[rows].tolist(),
            "evidence": evidence,
        },
        schema_overrides={k: v for k, v in schema.items() if k != "pair"},
    )
    return named(frame).select(list(schema))


def _word(name: str, level: int) -> str:
    if level == EXACT:
        return f"{name} the same"
    if level == SHARED and name in ("email", "phone", "loyalty"):
        return f"{name} the same, used by several"
    return f"{name} {'different' if level == DIFFERENT[name] else 'similar'}"
