"""A forgotten customer is gone from everything, stays gone, and models learn as if they had never been."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopsight.serving.contract import read_json, write_json
from shopsight.serving.forgotten import Forgotten
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.repository import publish, releases, rollback
from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.identity.given_ids import IdFileError, read_ids
from shopsight.training.data.ingest import ingest
from shopsight.training.data.tables import SCHEMAS, scan_table, write_tables
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.recipes import recipe
from shopsight.training.privacy import places
from shopsight.training.privacy.forget import NotForgotten, Receipt, Repository, UnknownIdsError, forget, look
from shopsight.training.privacy.people import UnknownSourceError, find_person
from shopsight.training.privacy.subject_access import NothingHeld, subject_access
from shopsight.training.recommend.checkpoint import load as load_recommend
from tests.training.privacy.raw_shop import EVENTS, write_raw

KEY = PseudonymKey("test", b"k" * 32)
PEOPLE, GONE = 60, 17
FAMILIES = ("profiles", "recommend")


def learned(workspace: Workspace) -> None:
    for family in FAMILIES:
        steps.train(workspace, recipe("default"), family, lambda _: None)
    steps.export(workspace, recipe("default"), FAMILIES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Receipt]:
    """A shop that learned and published twice, then forgot one person by their web account."""
    root = tmp_path_factory.mktemp("shop")
    workspace = Workspace(root / "workspace")
    ingest(write_raw(root / "raw", PEOPLE), workspace, KEY)
    learned(workspace)
    publish(workspace.models, workspace.repository)
    publish(workspace.models, workspace.repository)
    return workspace, forget(workspace, KEY, "web", [f"W{GONE:05d}"], [Repository(workspace.repository)])


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same shop, to which that person never came."""
    root = tmp_path_factory.mktemp("never")
    workspace = Workspace(root / "workspace")
    ingest(write_raw(root / "raw", PEOPLE, without={GONE}), workspace, KEY)
    return workspace


def rows(workspace: Workspace, table: str) -> pl.DataFrame:
    """A table without the ids that ingest hands out, sorted."""
    frame = scan_table(workspace.tables, table).collect()
    return frame.select(pl.exclude("customer_id", "event_id")).sort(pl.all())


def test_every_table_is_that_of_a_shop_that_never_saw_them(
    shop: tuple[Workspace, Receipt], never: Workspace
) -> None:
    for table in SCHEMAS:
        assert rows(shop[0], table).equals(rows(never, table)), table


def test_a_model_trained_again_equals_one_that_never_saw_them(
    shop: tuple[Workspace, Receipt], never: Workspace
) -> None:
    learned(shop[0])
    learned(never)
    ours, theirs = load_recommend(shop[0]).final, load_recommend(never).final
    np.testing.assert_array_equal(np.asarray(ours.item_factors), np.asarray(theirs.item_factors))
    np.testing.assert_array_equal(np.asarray(ours.user_factors), np.asarray(theirs.user_factors))


def test_the_receipt_counts_what_was_erased_where(shop: tuple[Workspace, Receipt]) -> None:
    workspace, receipt = shop
    assert receipt.erased["tables/events"] == EVENTS and receipt.erased["tables/identities"] == 2
    assert receipt.erased["tables/messages"] == 1 and receipt.erased["tables/customers"] == 1
    assert receipt.erased["quarantine"] == 1
    assert {"models/profile", "models/recommend", "checkpoints/recommend"} <= receipt.erased.keys()
    assert receipt.releases == {str(workspace.repository): [3, 4]} and receipt.unknown == 0
    written = json.loads((workspace.root / "receipts" / "forget-0001.json").read_text())
    assert written["erased"] == receipt.erased
    assert f"W{GONE:05d}" not in json.dumps(written)


def test_nothing_on_disk_names_them_but_tombstones_and_receipt(shop: tuple[Workspace, Receipt]) -> None:
    workspace, receipt = shop
    pseudonyms = [KEY.pseudonym("web", f"W{GONE:05d}"), KEY.pseudonym("app", f"A{GONE:05d}")]
    for path in (p for p in workspace.root.rglob("*") if p.is_file()):
        if path.name == "forgotten.json" or path.parent.name == "receipts":
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content = pl.read_parquet(path).write_json().encode()
        for name in (*pseudonyms, *receipt.customer_ids, f"W{GONE:05d}", f"A{GONE:05d}", f"p{GONE}@mail"):
            assert name.encode() not in content, path


def test_a_rollback_does_not_bring_them_back(shop: tuple[Workspace, Receipt]) -> None:
    workspace, receipt = shop
    assert [release.number for release in releases(workspace.repository)] == [4, 3]
    made = rollback(workspace.repository)
    folder = made.folder(workspace.repository, "recommend")
    assert receipt.customer_ids[0].encode() not in (folder / "customers.safetensors").read_bytes()


def test_tables_from_a_backup_are_read_without_them(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    person = find_person(workspace, KEY, "app", "A00003")
    backup = {path: path.read_bytes() for path in workspace.tables.rglob("*") if path.is_file()}
    forget(workspace, KEY, "app", ["A00003"])
    for path, content in backup.items():
        path.write_bytes(content)
    for table in ("events", "customers", "identities", "messages"):
        ids = scan_table(workspace.tables, table).collect()["customer_id"]
        assert ids.len() and not ids.is_in(list(person.customer_ids)).any()


def test_the_same_files_again_bring_nothing_back(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    sources = write_raw(tmp_path / "raw", 12)
    ingest(sources, workspace, KEY)
    forget(workspace, KEY, "web", ["W00003"])
    before = {table: rows(workspace, table) for table in SCHEMAS}
    report = ingest(sources, workspace, KEY)
    assert report.refused["forgotten"] == 2 + 5 + 12 + 1 and report.read == report.accepted + sum(
        report.refused.values()
    )
    for table, frame in before.items():
        assert rows(workspace, table).equals(frame), table
    person = find_person(workspace, KEY, "web", "W00003")
    assert (
        person.customer_ids == () and places.traces([workspace.tables, workspace.quarantine], [person]) == []
    )
    quarantine = pl.read_parquet(workspace.quarantine / "refused.parquet")
    assert not quarantine["raw"].str.contains("W00003|A00003|p3@").any() and quarantine.height == 11


def everything(workspace: Workspace) -> dict[str, bytes]:
    """Every file of a workspace."""
    return {str(path): path.read_bytes() for path in sorted(workspace.root.rglob("*")) if path.is_file()}


def test_an_unknown_id_or_source_touches_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12, without={5}), workspace, KEY)
    before = everything(workspace)
    with pytest.raises(
        UnknownIdsError, match="1 of 2 ids are not known in source 'web'; nothing was touched"
    ):
        forget(workspace, KEY, "web", ["W00003", "W00005"])
    with pytest.raises(UnknownIdsError):
        forget(workspace, KEY, "app", ["W00003"])
    with pytest.raises(UnknownSourceError, match=r"no source 'wbe'.*did you mean \"web\""):
        forget(workspace, KEY, "wbe", ["W00003"])
    with pytest.raises(UnknownIdsError):  # nobody at all is known
        forget(workspace, KEY, "web", ["W00005"], skip_unknown=True)
    assert everything(workspace) == before
    receipt = forget(workspace, KEY, "web", ["W00003", "W00005"], skip_unknown=True)
    assert receipt.unknown == 1 and receipt.erased["tables/customers"] == 1
    assert len(Forgotten.read(workspace.root).tombstones) == 1


def test_forgetting_again_touches_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    first = forget(workspace, KEY, "web", ["W00003"])
    workspace.checkpoints.joinpath("recommend").mkdir(parents=True)
    pl.DataFrame({"customer_id": ["c0000000001"]}).write_parquet(
        workspace.checkpoints / "recommend" / "customers.parquet"
    )
    before = everything(workspace)
    again = forget(workspace, KEY, "app", ["A00003"])
    assert again.erased == {} and again.customer_ids == first.customer_ids
    assert everything(workspace) == before


@pytest.mark.parametrize(
    "written", ["W00003 ", "\ufeffW00003", "W00003\r", "'W00003", '="W00003"', "\u00a0W00003\t"]
)
def test_what_a_spreadsheet_puts_around_an_id_is_no_part_of_it(tmp_path: Path, written: str) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    file = tmp_path / "ids.txt"
    file.write_text(written + "\n", encoding="utf-8")
    plan = look(workspace, KEY, "web", list(read_ids(str(file))))
    assert plan.unknown == () and plan.people == (find_person(workspace, KEY, "web", "W00003"),)


def test_the_plan_tells_what_the_receipt_will(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", PEOPLE), workspace, KEY)
    learned(workspace)
    group = {"size": 8, "examples": ["where is my parcel number 3"]}
    quoting = {"watch": {"groups": [group]}, "drift": {"groups": [group]}}
    figures = workspace.models / "profile" / "metrics.json"  # as an earlier version wrote it
    write_json(figures, read_json(figures) | quoting)
    publish(workspace.models, workspace.repository)
    before = everything(workspace)
    repositories = [Repository(workspace.repository)]
    plan = look(workspace, KEY, "web", ["W00003"], repositories)
    assert everything(workspace) == before
    assert plan.accounts["source"].to_list() == ["app", "web"] and plan.releases == {
        str(workspace.repository): 1
    }
    receipt = forget(workspace, KEY, "web", ["W00003"], repositories)
    assert plan.rows == receipt.erased and sum(receipt.accounts.values()) == 2
    left = [path for path in workspace.root.rglob("metrics.json") if "parcel number" in path.read_text()]
    assert (
        not left and read_json(figures)["watch"] == {"groups": [{"size": 8}]} == read_json(figures)["drift"]
    )


def test_labels_of_erased_messages_go_too(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    labels = [(f"m{n}", "intent", "parcel", None) for n in range(12)]
    write_tables(workspace.tables, {"labels": pl.DataFrame(labels, schema=SCHEMAS["labels"], orient="row")})
    assert forget(workspace, KEY, "web", ["W00003"]).erased["tables/labels"] == 1
    assert "m3" not in scan_table(workspace.tables, "labels").collect()["message_id"].to_list()


def test_a_quantity_that_equals_an_id_makes_a_refused_row_nobody_s(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    sources = write_raw(folder, 3)
    for name in ("orders.csv", "accounts.csv", "chats.jsonl"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("W00001", "1").replace("W00002", "2"), encoding="utf-8")
    workspace = Workspace(tmp_path / "workspace")
    ingest(sources, workspace, KEY)
    held = subject_access(workspace, KEY, "web", "1")
    assert [row["source_id"] for row in held.refused] == ["1"]  # every order has the quantity 1
    assert forget(workspace, KEY, "web", ["1"]).erased["quarantine"] == 1
    assert ingest(sources, workspace, KEY).refused["bad_value"] == 2


def test_a_kill_after_the_tombstones_is_finished_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    theirs = find_person(workspace, KEY, "web", "W00003")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(places, "erase_rows", killed)
        forget(workspace, KEY, "web", ["W00003"])
    assert scan_table(workspace.tables, "events").collect().height == 11 * EVENTS
    assert places.traces([workspace.tables], [theirs])
    assert forget(workspace, KEY, "web", ["W00003"]).erased["tables/events"] == EVENTS
    assert places.traces([workspace.tables], [theirs]) == []


def test_a_trace_that_is_left_is_told(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, KEY)
    workspace.reports.mkdir(exist_ok=True)
    (customer_id,) = find_person(workspace, KEY, "web", "W00003").customer_ids
    (workspace.reports / "note.txt").write_text(f"call {customer_id} back")
    with pytest.raises(NotForgotten, match=r"note\.txt"):
        forget(workspace, KEY, "web", ["W00003"])


def test_an_order_of_ids_in_the_manifest_stays_true(shop: tuple[Workspace, Receipt]) -> None:
    entry = read_snapshot(shop[0].tables)["tables"]["events"]
    assert entry["rows"] == (PEOPLE - 1) * EVENTS == scan_table(shop[0].tables, "events").collect().height


def test_subject_access_holds_everything_of_one_and_nothing_of_others(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", PEOPLE), workspace, KEY)
    learned(workspace)
    held = subject_access(workspace, KEY, "app", "A00003")
    assert {name: len(rows) for name, rows in held.tables.items()} == {
        "customers": 1, "events": EVENTS, "identities": 2, "messages": 1,
    }  # fmt: skip
    assert held.tables["messages"][0]["text"] == "where is my parcel number 3"
    assert [row["raw"].split(",")[0] for row in held.refused] == ["W00003"]
    assert {row["email"] for row in held.accounts} == {"p3@mail.test"} and len(held.accounts) == 2
    assert {"models/profile", "models/recommend", "checkpoints/profiles/assignments.parquet"} <= set(
        held.learned
    )
    assert len(held.learned["models/recommend"][0]["seen"]) > 0
    held.write(tmp_path / "held.json")
    assert (tmp_path / "held.json").stat().st_mode & 0o777 == 0o600
    assert "number 4" not in (tmp_path / "held.json").read_text()
    with pytest.raises(NothingHeld, match="source 'app'"):
        subject_access(workspace, KEY, "app", "A99999")
    with pytest.raises(UnknownSourceError, match="no source 'apq'"):
        subject_access(workspace, KEY, "apq", "A00003")


def test_ids_are_read_one_a_line_and_quoted_ones_as_json(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text('W1\r\n"two\\nlines"\n\n=cmd()\nW1\n', encoding="utf-8")
    assert read_ids(str(file)) == {"W1": 1, "two\nlines": 2, "=cmd()": 4}
    file.write_text('W1\n"broken\n', encoding="utf-8")
    with pytest.raises(IdFileError, match="line 2"):
        read_ids(str(file))
    with pytest.raises(IdFileError, match="cannot be read"):
        read_ids(str(tmp_path / "nowhere"))
