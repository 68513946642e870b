"""Forgetting and access on the case 21-forget: who is meant, what is held of them, and who names them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, create_key, load_key
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.cli.main import app
from shopsight.training.data.ingest import ingest
from shopsight.training.data.tables import scan_table
from shopsight.training.privacy.forget import look
from shopsight.training.privacy.subject_access import subject_access

CASE = Path(__file__).resolve().parents[3] / "shared" / "cases" / "ingest" / "21-forget"
pytestmark = pytest.mark.skipif(not CASE.is_dir(), reason="the shared cases are not beside the checkout")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.json"))
    create_key()
    shutil.copytree(CASE, tmp_path / "raw")
    workspace = Workspace(tmp_path / "workspace")
    ingest(tmp_path / "raw" / "sources.toml", workspace, load_key())
    return workspace


def ask(
    shop: Workspace, file: Path | str, *options: str, source: str = "web", stdin: str | None = None
) -> str:
    arguments = [
        "forget",
        "--source",
        source,
        "--id-file",
        str(file),
        "--workspace",
        str(shop.root),
        *options,
    ]
    done = CliRunner().invoke(app, arguments, input=stdin)
    return done.output if done.exit_code == 0 else f"refused: {done.exception}"


@pytest.mark.parametrize("name", ["ids_bom.txt", "ids_crlf.txt", "ids_space.txt"])
def test_an_id_with_a_mark_or_blanks_around_it_is_the_customer_s(shop: Workspace, name: str) -> None:
    assert "1 rows in tables/customers" in ask(shop, CASE / name, "--dry-run")
    said = ask(shop, CASE / name, "--yes")
    assert "1 rows erased from tables/events" in said
    orders = scan_table(shop.tables, "events").collect()["order_id"].to_list()
    assert "O4" not in orders and "O1" in orders


@pytest.mark.parametrize(
    ("source", "ids", "says"),
    [
        ("web", "W9\n", "refused: standard input: 1 of 1 ids are not known in source 'web' (line 1)"),
        ("web", "W3\n\nW9\n", "refused: standard input: 1 of 2 ids are not known in source 'web' (line 3)"),
        ("wbe", "W3\n", "refused: no source 'wbe' in this workspace"),
        ("web", "w3\n", "refused: standard input: 1 of 1 ids are not known"),
    ],
)
def test_nobody_s_id_and_an_unknown_source_touch_nothing(
    shop: Workspace, source: str, ids: str, says: str
) -> None:
    before = {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()}
    for options in (["--yes"], ["--dry-run"], ["--yes", "--retrain"]):
        assert ask(shop, "-", *options, source=source, stdin=ids).startswith(says)
    assert {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()} == before


def test_without_a_yes_nothing_is_touched(shop: Workspace) -> None:
    before = {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()}
    assert ask(shop, "-", stdin="W3\n").startswith("refused: nothing was touched: look over the accounts")
    assert {path: path.read_bytes() for path in shop.root.rglob("*") if path.is_file()} == before


def test_a_neighbour_s_text_that_names_her_is_found(shop: Workspace) -> None:
    plan = look(shop, load_key(), "web", ["W1"])
    assert plan.mentions is not None and "m2" in [mention.row for mention in plan.mentions]
    assert "M. Q." in plan.accounts["initials"].to_list()
    ask(shop, "-", "--yes", "--mask-mentions", stdin="W1\n")
    texts = scan_table(shop.tables, "messages").collect()["text"].to_list()
    assert any("my neighbour [name]" in text for text in texts) and not any("Quill" in text for text in texts)


def test_access_has_her_refused_row_and_only_hers(shop: Workspace) -> None:
    held = subject_access(shop, load_key(), "web", "W1 ")
    assert [row["raw"][:5] for row in held.refused if row["source"] == "web"] == ["O6,1,"]
    assert {"O1", "O2", "O90"} <= {row["order_id"] for row in held.tables["events"]}


def test_her_contact_of_the_support_desk_is_hers_although_the_household_shares_the_mail(
    shop: Workspace,
) -> None:
    held = subject_access(shop, load_key(), "web", "W1")
    assert {"m1"} <= {row["message_id"] for row in held.tables["messages"]}
    ask(shop, "-", "--yes", stdin="W1\n")
    left = scan_table(shop.tables, "messages").collect()
    assert "m1" not in left["message_id"].to_list()
    assert "O5" in scan_table(shop.tables, "events").collect()["order_id"].to_list()
