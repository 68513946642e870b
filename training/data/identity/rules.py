"""Review rules on pairs of accounts, stored in the workspace and applied by every later ingest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.identity.linkage import Said

RULES_FILE = "identity_rules.parquet"
VERDICTS = ("same", "apart")
PAIR = ("source", "source_id", "other_source", "other_source_id")
RULES = {"pair": pl.String, **dict.fromkeys((*PAIR, "key_id", "verdict"), pl.String)}


class RuleError(ValueError):
    """A rule or a pair that is named does not exist, or an account of it is not known."""


def read_rules(folder: Path, key: PseudonymKey) -> pl.DataFrame:
    """Return the rules of a workspace (RULES), their pseudonyms as `key` makes them."""
    return read_pairs(folder / RULES_FILE, key, pl.DataFrame(schema=RULES))


def keep_rules(folder: Path, key: PseudonymKey, pairs: pl.DataFrame, verdict: str) -> pl.DataFrame:
    """Keep a verdict on pairs (PAIR, ids as pseudonyms) in place of earlier ones; returns the new rules."""
    rules = read_rules(folder, key)
    said = pairs.select(*PAIR, pl.lit(key.key_id).alias("key_id"), pl.lit(verdict).alias("verdict"))
    said = named(said).unique("pair", maintain_order=True).select(list(RULES))
    write_private(folder / RULES_FILE, pl.concat([rules.join(said, on="pair", how="anti"), said]))
    return said


def withdraw_rules(folder: Path, key: PseudonymKey, names: list[str]) -> None:
    """Remove the rules on the named pairs; raises RuleError, before any is removed, where there is none."""
    rules = read_rules(folder, key)
    if unknown := sorted(set(names) - set(rules["pair"])):
        raise RuleError(
            f"{', '.join(unknown)}: no such rule; nothing was withdrawn, see 'shopsight identity rules'"
        )
    write_private(folder / RULES_FILE, rules.filter(~pl.col("pair").is_in(names)))


def without_accounts(pairs: pl.DataFrame, accounts: set[tuple[str, str]]) -> pl.DataFrame:
    """Return pairs (PAIR) without those that name one of these (source, pseudonym)."""
    kept = [not accounts & {(a, b), (c, d)} for a, b, c, d in pairs.select(PAIR).iter_rows()]
    return pairs.filter(pl.Series(kept, dtype=pl.Boolean))


def said_of(rules: pl.DataFrame, known: pl.DataFrame) -> Said:
    """Bring rules to places in `known` (source, pseudonym); accounts that are gone are left out."""
    if rules.is_empty():
        return Said()
    places = {pair: i for i, pair in enumerate(known.select("source", "pseudonym").iter_rows())}
    found: dict[str, list[tuple[int, int]]] = {verdict: [] for verdict in VERDICTS}
    for a, b, c, d, verdict in rules.select(*PAIR, "verdict").iter_rows():
        one, other = places.get((a, b)), places.get((c, d))
        if one is not None and other is not None and one != other:
            found[verdict].append((one, other))
    same, apart = (np.array(found[v], dtype=np.int64).reshape(-1, 2) for v in VERDICTS)
    return Said(same, apart)


def named(rows: pl.DataFrame) -> pl.DataFrame:
    """Bring the two accounts of each pair (PAIR) into one order and give it the name it is called by."""
    ordered = [(*min((a, b), (c, d)), *max((a, b), (c, d))) for a, b, c, d in rows.select(PAIR).iter_rows()]
    names = [hashlib.sha256("\0".join(pair).encode()).hexdigest()[:10] for pair in ordered]
    columns = {name: [pair[i] for pair in ordered] for i, name in enumerate(PAIR)}
    return rows.with_columns(pl.Series(n, v, dtype=pl.String) for n, v in {**columns, "pair": names}.items())


def read_pairs(path: Path, key: PseudonymKey, empty: pl.DataFrame) -> pl.DataFrame:
    """Read a file of pairs with the columns of `empty`; their pseudonyms are renewed to `key`."""
    if not path.is_file():
        return empty
    parts = [empty]
    for (key_id,), part in pl.read_parquet(path).group_by("key_id", maintain_order=True):
        new = {n: key.renewed(part[n], str(key_id)) for n in ("source_id", "other_source_id")}
        columns = [pl.Series(name, values, dtype=pl.String) for name, values in new.items()]
        renewed = named(part.with_columns(*columns, pl.lit(key.key_id).alias("key_id")))
        parts.append(renewed.select(empty.columns))
    return pl.concat(parts)


def write_private(path: Path, rows: pl.DataFrame) -> None:
    """Write a table that its owner alone may read, in one step."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    staged.touch(mode=0o600)
    rows.write_parquet(staged)
    staged.replace(path)
