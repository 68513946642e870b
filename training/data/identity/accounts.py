"""Reads pairs of accounts by raw ids and converts them to the pseudonyms that rules use."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.identity.given_ids import forms_of, text_of
from shopsight.training.data.identity.resolve import renew
from shopsight.training.data.identity.rules import PAIR, RuleError
from shopsight.training.data.sources.faults import nearest
from shopsight.training.data.tables import scan_table


def account_pairs(file: str, tables: Path, key: PseudonymKey) -> pl.DataFrame:
    """Read pairs of accounts (PAIR as CSV with a header, ids raw; "-" is standard input) as pseudonyms.

    Both accounts of a pair must be known from an ingest. Raises RuleError naming the lines that are not so,
    and no id; IdFileError for a file that cannot be read.
    """
    name = "standard input" if file == "-" else file
    rows = csv.DictReader(io.StringIO(text_of(file).replace("\ufeff", "")))
    if missing := [column for column in PAIR if column not in (rows.fieldnames or ())]:
        raise RuleError(
            f"{name}: has no column {', '.join(missing)}; the first line is {','.join(PAIR)}, and each "
            "further line is two accounts"
        )
    identities = renew(scan_table(tables, "identities").collect(), key)
    present = identities.filter(pl.col("valid_to").is_null())
    known = set(present.select("source", "source_id").iter_rows())
    sources = {source for source, _ in known}
    pairs, problems = [], []
    for row in rows:
        cells = {column: row.get(column) or "" for column in PAIR}
        ends = [_account(cells["source"], cells["source_id"], key, known)]
        ends.append(_account(cells["other_source"], cells["other_source_id"], key, known))
        if problem := _problem(cells, ends, sources):
            problems.append(f"line {rows.line_num}: {problem}")
        else:
            pairs.append([part for end in ends if end for part in end])
    if problems or not pairs:
        told = "; ".join(problems) or "holds no pair"
        raise RuleError(f"{name}: {told}; no rule was kept")
    return pl.DataFrame(pairs, schema=dict.fromkeys(PAIR, pl.String), orient="row")


def _account(
    source: str, source_id: str, key: PseudonymKey, known: set[tuple[str, str]]
) -> tuple[str, str] | None:
    forms = ((source.strip(), key.pseudonym(source.strip(), form)) for form in forms_of(source_id))
    return next((one for one in forms if one in known), None)


def _problem(cells: dict[str, str], ends: list[tuple[str, str] | None], sources: set[str]) -> str | None:
    for column, end in zip(("source", "other_source"), ends, strict=True):
        if cells[column].strip() not in sources:
            return f"no {column} '{cells[column]}' in this workspace{nearest(cells[column], sources)}"
        if end is None:
            return f"the {column}_id is not known in '{cells[column].strip()}'"
    return "both accounts are the same one" if ends[0] == ends[1] else None
