"""Logs that carry a login and a visitor in one row say that both are one customer."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
SOURCES = """format_version = 1
{top}
[[source]]
name = "log"
kind = "events"
path = "log.csv"
[source.columns]
source_id = ["member", "visitor"]
item_id = "sku"
event = "what"
timestamp = "at"
[[source]]
name = "log"
kind = "customers"
path = "log.csv"
derived = true
[source.columns]
source_id = {member}
also_id = "visitor"
email = "mail"
"""


def read(
    folder: Path, rows: list[tuple[str, str, str]], member: str = '"member"', top: str = ""
) -> tuple[IngestReport, list[list[int]]]:
    """Ingest rows of (member, visitor, mail); returns the report and which rows are one customer."""
    lines = [f"view,{m},{v},i{n},2025-06-14 10:{n:02d},{mail}" for n, (m, v, mail) in enumerate(rows)]
    (folder / "log.csv").write_text("\n".join(["what,member,visitor,sku,at,mail", *lines]))
    (folder / "s.toml").write_text(SOURCES.format(member=member, top=top))
    workspace = Workspace(folder / "w")
    report = ingest(folder / "s.toml", workspace, KEY)
    events = scan_table(workspace.tables, "events").collect().sort("timestamp")
    groups = events.with_row_index("n").group_by("customer_id").agg(pl.col("n"))
    return report, sorted(groups["n"].to_list())


@pytest.mark.parametrize("member", ['"member"', '["member", "visitor"]'])
@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([("", "v1", ""), ("M", "v1", ""), ("", "v2", "")], [[0, 1], [2]]),
        ([("", "v1", ""), ("", "v2", ""), ("M", "v1", ""), ("M", "v2", "")], [[0, 1, 2, 3]]),
        ([("M", "", ""), ("N", "", ""), ("", "v1", "")], [[0], [1], [2]]),
    ],
)
def test_a_login_and_its_visitors_are_one_customer(
    tmp_path: Path, member: str, rows: list[tuple[str, str, str]], wanted: list[list[int]]
) -> None:
    report, groups = read(tmp_path, rows, member)
    assert groups == wanted and report.notes == ()


def test_a_visitor_of_several_logins_proves_nothing(tmp_path: Path) -> None:
    rows = [("", "v1", ""), ("M", "v1", ""), ("N", "v1", ""), ("", "v2", ""), ("N", "v2", "")]
    report, groups = read(tmp_path, rows)
    assert groups == [[0], [1], [2, 3, 4]]
    assert report.notes == (
        'source "log": 1 further ids (also_id) belong to several customers and link none',
    )


def test_the_rule_is_told_and_ids_stay_when_a_login_comes_later(tmp_path: Path) -> None:
    _, before = read(tmp_path, [("", "v1", ""), ("", "v2", "")])
    assert before == [[0], [1]]
    first = scan_table(tmp_path / "w" / "tables", "identities").collect()
    report, groups = read(tmp_path, [("", "v1", ""), ("", "v2", ""), ("M", "v1", "")])
    assert groups == [[0, 2], [1]] and report.customers["customers"] == 2
    now = scan_table(tmp_path / "w" / "tables", "identities").collect()
    assert set(now["customer_id"]) == set(first["customer_id"])
    assert now["rule"].value_counts(sort=True).filter(pl.col("rule") == "also_id")["count"].to_list() == [1]


def test_joining_that_is_off_leaves_them_apart(tmp_path: Path) -> None:
    _, groups = read(tmp_path, [("", "v1", ""), ("M", "v1", "")], top='[identity]\nmethod = "off"')
    assert groups == [[0], [1]]
