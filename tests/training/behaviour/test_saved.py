"""Analyses in a workspace: their files, what people see of them, consent, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.cli.main import app
from shopsight.training.data.tables import scan_table, write_tables
from shopsight.training.privacy import places
from shopsight.training.privacy.people import Person
from shopsight.training.report.page import write_report
from tests.training.small_shop import event, table, write_shop

KEY = PseudonymKey("test", b"k" * 32)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Ten customers view, every second one buys; c0 refuses profiling."""
    rows = [event(f"c{n}", "<i>hat</i>", "view", n) for n in range(10)]
    rows += [
        event(f"c{n}", "<i>hat</i>", "purchase", n + 0.01, price=5, currency="EUR", channel="<b>till</b>")
        for n in range(1, 10, 2)
    ]
    rows += [event(None, "<i>hat</i>", "view", 3, channel="<b>till</b>", session_id="s")]
    refused = [{"customer_id": "c0", "purpose": "profiling", "allowed": False}]
    return write_shop(tmp_path / "w", rows, consents=refused)


def said(workspace: Workspace, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["behaviour", *words, "--workspace", str(workspace.root), "--json"])
    assert done.exit_code == 0, done.output
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_a_funnel_is_printed_written_and_on_the_page(workspace: Workspace) -> None:
    found = said(workspace, "funnel", "--steps", "view,purchase")["funnel"]
    assert [row["reached"] for row in found["steps"]][:2] == [11, 5]
    assert found["steps"][1]["share"]["low"] < 5 / 11 < found["steps"][1]["share"]["high"]
    assert "dropped_out" not in found and not any("customer_id" in row for row in found["weeks"])
    lost = pl.read_parquet(found["tables"]["dropped_out"]["file"])
    assert lost["customer_id"].to_list() == ["c2", "c4", "c6", "c8"]  # c0 refuses profiling
    assert found["tables"]["dropped_out"]["rows"] == 4
    assert {p.stat().st_mode & 0o777 for p in workspace.behaviour.iterdir()} == {0o600}
    page = write_report(workspace, title="t").read_text("utf-8")
    assert "11 sessions began with view; 5 of them came to purchase: 45.5%" in page
    assert "&lt;b&gt;till&lt;/b&gt;" in page and "<b>till</b>" not in page


VERBS = {
    "funnel": ("steps", "weeks", "changes", "dropped_out"),
    "paths": ("paths", "transitions"),
    "cohorts": ("people", "revenue"),
    "basket": ("pairs",),
    "timing": ("medians", "returned", "hazard"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_writes_its_tables_and_prints_them(verb: str, workspace: Workspace) -> None:
    more = ("--steps", "view,purchase") if verb == "funnel" else ()
    found = said(workspace, verb, *more)[verb]
    assert tuple(found["tables"]) == VERBS[verb] and found["notes"]
    for name, file in found["tables"].items():
        kept = pl.read_parquet(file["file"])
        assert (file["rows"], Path(file["file"]).parent) == (kept.height, workspace.behaviour)
        assert name not in found or len(found[name]) == min(kept.height, 100)
    done = CliRunner().invoke(app, ["behaviour", verb, *more, "--workspace", str(workspace.root)])
    assert done.exit_code == 0, done.output
    assert all(note.split(";")[0][:40] in done.stdout for note in found["notes"])


def test_every_analysis_is_on_the_page(workspace: Workspace) -> None:
    assert "What customers do" not in write_report(workspace, title="t").read_text("utf-8")
    events = [
        event(
            f"b{n}", item, "purchase", n * 1.3 + again, price=9, currency=["EUR", "USD"][n % 2], line_id=item
        )
        for n in range(60)
        for again in (0, 35)
        for item in (("a", "b") if n % 3 else ("c",))
    ]
    events += [event(f"b{n}", "a", "view", n) for n in range(60)]
    shop = write_shop(workspace.root.parent / "more", events, [{"item_id": "a", "title": "<u>Hat</u>"}])
    for verb in VERBS:
        said(shop, verb, *(("--steps", "view,purchase") if verb == "funnel" else ()))
    page = write_report(shop, title="t").read_text("utf-8")
    titles = (
        "Steps to a purchase", "Paths of visits", "Cohorts: customers who come back",
        "Cohorts: revenue that stays", "Time between purchases", "Days on which customers come back",
        "Bought together",
    )  # fmt: skip
    assert all(f"<h3>{title}</h3>" in page for title in titles)
    assert page.count("</figure>") >= len(titles)
    assert "<u>" not in page and "&lt;u&gt;Hat&lt;/u&gt; + b" in page
    assert "Amounts in EUR are in the table" in page or "Amounts in USD are in the table" in page


def test_the_page_says_which_analysis_is_older_than_the_tables(workspace: Workspace) -> None:
    said(workspace, "funnel", "--steps", "view,purchase")
    told = "The tables changed since; &#39;shopsight behaviour funnel&#39; makes this analysis anew."
    assert told not in write_report(workspace, title="t").read_text("utf-8")
    write_tables(workspace.tables, {"events": table("events", [event("c9", "i", "view", 12)])})
    assert told in write_report(workspace, title="t").read_text("utf-8")


def test_a_funnel_that_fails_leaves_the_last_one(workspace: Workspace) -> None:
    said(workspace, "funnel", "--steps", "view,purchase")
    before = {p.name: p.read_bytes() for p in workspace.behaviour.iterdir()}
    done = CliRunner().invoke(
        app, ["behaviour", "funnel", "--steps", "view,basket", "--workspace", str(workspace.root)]
    )
    assert isinstance(done.exception, BehaviourError) and done.exit_code == 1
    assert "no event is called 'basket'; known steps: purchase, view" in str(done.exception)
    assert {p.name: p.read_bytes() for p in workspace.behaviour.iterdir()} == before


def test_a_funnel_is_printed_as_a_table(workspace: Workspace) -> None:
    words = ("behaviour", "funnel", "--steps", "view,purchase", "--by", "customer", "--rows", "2")
    done = CliRunner().invoke(app, [*words, "--workspace", str(workspace.root)])
    assert done.exit_code == 0 and "window days 7" in done.stdout
    assert "purchase" in done.stdout and "till" not in done.stdout
    assert "dropped out: 1 rows in" in done.stdout


def test_a_customer_is_erased_from_those_who_dropped_out(workspace: Workspace) -> None:
    said(workspace, "funnel", "--steps", "view,purchase")
    hashed = scan_table(workspace.tables, "identities").filter(pl.col("customer_id") == "c2").collect()
    person = Person(("c2",), (("web", hashed["source_id"][0]),))
    place = "reports/behaviour/funnel_dropped_out.parquet"
    assert places.held_rows(workspace, [person], KEY)[place] == 1
    assert places.erase_rows(workspace, [person], KEY)[place] == 1
    assert places.traces([workspace.behaviour], [person]) == []
    assert "began with view" in write_report(workspace, title="t").read_text("utf-8")
