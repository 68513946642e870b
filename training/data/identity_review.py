"""What people say of two accounts, kept in the workspace and obeyed by every later ingest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from serving.pseudonym import PseudonymKey
from training.data.linkage import Linkage, Said
from training.data.linkage.comparisons import DIFFERENT, EXACT, FIELDS, SHARED, levels_of

RULES_FILE, JOINS_FILE = "identity_rules.parquet", "identity_joins.parquet"
VERDICTS = ("same", "apart")
_PAIR = ("source", "source_id", "other_source", "other_source_id")
RULES = {**dict.fromkeys(_PAIR, pl.String), "key_id": pl.String, "verdict": pl.String}
_MOST_JOINS = 5_000


class ReviewError(ValueError):
    """A pair that is named in a review is not known."""


def read_rules(folder: Path, key: PseudonymKey) -> pl.DataFrame:
    """Return the rules of a workspace (RULES), their pseudonyms as `key` makes them."""
    return _renewed(folder / RULES_FILE, key, pl.DataFrame(schema=RULES))


def read_joins(folder: Path, key: PseudonymKey) -> pl.DataFrame:
    """Return the joined pairs of the last ingest, the least certain first: see `joins_of`."""
    return _renewed(folder / JOINS_FILE, key, joins_of(None, pl.DataFrame()))


def add_rule(folder: Path, key: PseudonymKey, pairs: list[str], verdict: str) -> None:
    """Keep a verdict on pairs of the last ingest, in place of earlier ones; raises ReviewError."""
    joins, rules = read_joins(folder, key), read_rules(folder, key)
    known = pl.concat([joins.select("pair", *_PAIR), _numbered(rules).select("pair", *_PAIR)]).unique("pair")
    unknown = sorted(set(pairs) - set(known["pair"]))
    if unknown:
        raise ReviewError(f"{', '.join(unknown)}: no such pair; 'shopsight identity review' lists the pairs")
    said = known.filter(pl.col("pair").is_in(pairs)).select(
        *_PAIR, pl.lit(key.key_id).alias("key_id"), pl.lit(verdict).alias("verdict")
    )
    write_private(folder / RULES_FILE, pl.concat([rules.join(said, on=_PAIR, how="anti"), said]))


def erase_rules(folder: Path, pseudonyms: set[tuple[str, str]], key: PseudonymKey) -> int:
    """Remove rules and listed pairs that name one of these (source, pseudonym); returns how many."""
    removed = 0
    for name, read in ((RULES_FILE, read_rules), (JOINS_FILE, read_joins)):
        rows = read(folder, key)
        kept = [not pseudonyms & {(a, b), (c, d)} for a, b, c, d in rows.select(_PAIR).iter_rows()]
        removed += rows.height - sum(kept)
        if not all(kept):
            write_private(folder / name, rows.filter(pl.Series(kept, dtype=pl.Boolean)))
    return removed


def said_of(rules: pl.DataFrame, known: pl.DataFrame) -> Said:
    """Bring rules to places in `known` (source, pseudonym); accounts that are gone are left out."""
    places = {pair: i for i, pair in enumerate(known.select("source", "pseudonym").iter_rows())}
    found: dict[str, list[tuple[int, int]]] = {verdict: [] for verdict in VERDICTS}
    for a, b, c, d, _, verdict in rules.select(list(RULES)).iter_rows():
        one, other = places.get((a, b)), places.get((c, d))
        if one is not None and other is not None and one != other:
            found[verdict].append((one, other))
    same, apart = (np.array(found[v], dtype=np.int64).reshape(-1, 2) for v in VERDICTS)
    return Said(same, apart)


def joins_of(linkage: Linkage | None, known: pl.DataFrame) -> pl.DataFrame:
    """Return the joined pairs, the least certain first: pair, customer_id, the two accounts as pseudonyms,
    key_id, probability, rule and the evidence in words, which names fields and no value.
    """
    schema = {
        "pair": pl.String, "customer_id": pl.String, **dict.fromkeys((*_PAIR, "key_id"), pl.String),
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
    return _numbered(frame).select(list(schema))


def write_private(path: Path, rows: pl.DataFrame) -> None:
    """Write a table that its owner alone may read, in one step."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    rows.write_parquet(staged)
    staged.replace(path)


def _word(name: str, level: int) -> str:
    if level == EXACT:
        return f"{name} the same"
    if level == SHARED and name in ("email", "phone", "loyalty"):
        return f"{name} the same, used by several"
    return f"{name} {'different' if level == DIFFERENT[name] else 'similar'}"


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Give each pair the short name that it is called by."""
    names = [
        hashlib.sha256("\0".join(pair).encode()).hexdigest()[:10] for pair in rows.select(_PAIR).iter_rows()
    ]
    return rows.with_columns(pl.Series("pair", names, dtype=pl.String))


def _renewed(path: Path, key: PseudonymKey, empty: pl.DataFrame) -> pl.DataFrame:
    if not path.is_file():
        return empty
    parts = [empty]
    for (key_id,), part in pl.read_parquet(path).group_by("key_id", maintain_order=True):
        new = {n: key.renewed(part[n], str(key_id)) for n in ("source_id", "other_source_id")}
        columns = [pl.Series(name, values, dtype=pl.String) for name, values in new.items()]
        parts.append(part.with_columns(*columns, pl.lit(key.key_id).alias("key_id")).select(empty.columns))
    return pl.concat(parts)
