"""The key can be replaced: customer ids stay, raw ids are found as before, the old key alone is refused."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.serving.contract import ModelContract
from shopsight.serving.forgotten import Forgotten, Tombstone
from shopsight.serving.pseudonym import (
    KEY_FILE_VARIABLE,
    PseudonymKey,
    PseudonymKeyError,
    create_key,
    load_key,
    rotate_key,
)
from shopsight.serving.release import current_release
from shopsight.serving.repository import publish
from shopsight.serving.routing.people import People
from shopsight.serving.routing.rows import RequestError
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.cli.main import app
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest
from shopsight.training.data.tables import scan_table
from shopsight.training.privacy.people import find_person
from shopsight.training.privacy.renew import renew_model, renew_workspace
from tests.serving.test_routers import row
from tests.serving.tiny_models import KEY as TINY
from tests.serving.tiny_models import TinyShop
from tests.training.privacy.raw_shop import write_raw

OLD = PseudonymKey("old", b"o" * 32)
NEW = PseudonymKey("new", b"n" * 32, renews=OLD)
WHO = [("web", f"W{n:05d}") for n in range(12)]


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys" / "key.json"
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(path))
    create_key()
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, OLD)
    return workspace


def customers(workspace: Workspace, key: PseudonymKey) -> list[tuple[str, ...]]:
    return [find_person(workspace, key, *who).customer_ids for who in WHO]


def test_a_renewed_pseudonym_is_the_one_that_the_new_key_gives() -> None:
    stored = OLD.pseudonyms("web", ["a", "b"])
    assert NEW.renewed(stored, "old") == [NEW.pseudonym("web", "a"), NEW.pseudonym("web", "b")]
    assert not set(stored) & set(NEW.pseudonyms("web", ["a", "b"]))
    assert NEW.renewed(stored, "new") == stored and NEW.as_of("old") == OLD
    with pytest.raises(PseudonymKeyError, match="old does not come after key new"):
        OLD.renewed(stored, "new")


def test_rotation_keeps_what_finds_everybody_and_shows_no_secret(key_file: Path) -> None:
    first = load_key()
    second, third = rotate_key(), rotate_key()
    assert load_key() == third and third.renews == second and second.renews == first
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert first.secret.hex() not in repr(third) and "secret" not in repr(third)
    assert third.renewed(first.pseudonyms("web", ["x"]), first.key_id) == [third.pseudonym("web", "x")]


@pytest.mark.usefixtures("key_file")
def test_a_kill_before_the_rename_leaves_the_old_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_key()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        rotate_key()
    assert load_key() == first
    assert rotate_key().renews == first


def test_a_missing_key_and_one_from_the_future_name_the_remedy(key_file: Path) -> None:
    key_file.write_text(json.dumps(json.loads(key_file.read_text()) | {"format_version": 9}))
    with pytest.raises(PseudonymKeyError, match="update shopsight"):
        load_key()
    key_file.unlink()
    for act in (load_key, rotate_key):
        with pytest.raises(PseudonymKeyError, match="shopsight key create"):
            act()


def test_customer_ids_stay_and_raw_ids_are_found_under_the_new_key(shop: Workspace, tmp_path: Path) -> None:
    before, old_rows = customers(shop, OLD), scan_table(shop.tables, "identities").collect()
    assert renew_workspace(shop, NEW) == {"tables": old_rows.height}
    assert customers(shop, NEW) == before and all(before)
    rows = scan_table(shop.tables, "identities").collect()
    assert rows["key_id"].unique().to_list() == ["new"] and rows.height == old_rows.height
    assert not rows["source_id"].is_in(old_rows["source_id"].implode()).any()
    assert renew_workspace(shop, NEW) == {}
    ingest(tmp_path / "raw" / "sources.toml", shop, NEW)
    assert scan_table(shop.tables, "identities").collect().equals(rows), "and the next ingest changes nothing"


def test_an_ingest_after_a_rotation_that_was_cut_off_finishes_it(shop: Workspace, tmp_path: Path) -> None:
    before = customers(shop, OLD)
    ingest(tmp_path / "raw" / "sources.toml", shop, NEW)
    assert customers(shop, NEW) == before


def test_the_old_key_alone_is_refused(shop: Workspace, tmp_path: Path) -> None:
    renew_workspace(shop, NEW)
    with pytest.raises(IngestError, match=r"made with key new, this key is old.*key rotate"):
        ingest(tmp_path / "raw" / "sources.toml", shop, OLD)
    assert customers(shop, NEW)[0], "and nothing was changed"


def test_tombstones_are_renewed_without_the_raw_ids(shop: Workspace) -> None:
    stone = Tombstone(("c1",), (("web", OLD.pseudonym("web", "gone")),), "old", "2026-01-01")
    Forgotten([stone]).write(shop.root)
    assert renew_workspace(shop, NEW)["tombstones"] == 1
    assert NEW.pseudonym("web", "gone") in Forgotten.read(shop.root).pseudonyms


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed between its two files"])
def test_a_model_finds_the_same_people(tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, new = TinyShop(seed=2), PseudonymKey("new", b"n" * 32, renews=TINY)
    folder = shop.write(tmp_path) / "recommend"
    asked = [row(SOURCE="web", SOURCE_ID=f"w{i}") for i in (0, 3, 39)]
    before = [People(folder, lambda: TINY, TINY.key_id).row_of(one) for one in asked]
    assert min(before) >= 0
    if killed:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(ModelContract, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            renew_model(folder, new)
    assert renew_model(folder, new) > 0 and renew_model(folder, new) == 0
    contract = ModelContract.read(folder)
    contract.verify_files(folder)
    people = People(folder, lambda: new, contract.preprocessing["key_id"])
    assert [people.row_of(one) for one in asked] == before
    with pytest.raises(RequestError, match="holds key tiny, the release was made with key new"):
        People(folder, lambda: TINY, "new").row_of(asked[0])


def test_a_release_of_before_is_answered_with_the_rotated_key(tmp_path: Path) -> None:
    folder = TinyShop(seed=2).write(tmp_path) / "recommend"
    new = PseudonymKey("new", b"n" * 32, renews=TINY)
    one = row(SOURCE="web", SOURCE_ID="w3")
    found = People(folder, lambda: new, TINY.key_id).row_of(one)
    assert found == People(folder, lambda: TINY, TINY.key_id).row_of(one) >= 0


def test_the_command_renews_workspace_and_repository(tmp_path: Path, key_file: Path) -> None:
    key = load_key()
    workspace = Workspace(tmp_path / "workspace")
    ingest(write_raw(tmp_path / "raw", 12), workspace, key)
    before = customers(workspace, key)
    key_file.write_text(json.dumps({"key_id": TINY.key_id, "secret": TINY.secret.hex()}))
    publish(TinyShop(seed=2).write(tmp_path / "models"), workspace.repository)
    key_file.write_text(json.dumps({"key_id": key.key_id, "secret": key.secret.hex()}))
    refused = CliRunner().invoke(app, ["key", "renew", "--workspace", str(workspace.root)])
    assert isinstance(refused.exception, PseudonymKeyError) and "does not come after" in str(
        refused.exception
    )
    chain = {"key_id": key.key_id, "secret": key.secret.hex()}
    chain["renews"] = {"key_id": TINY.key_id, "secret": TINY.secret.hex()}  # type: ignore[assignment]
    key_file.write_text(json.dumps(chain))
    ingest(tmp_path / "raw" / "sources.toml", Workspace(tmp_path / "other"), load_key())
    asked = ["--workspace", str(tmp_path / "other"), "--repository", str(workspace.repository)]
    done = CliRunner().invoke(app, ["key", "rotate", *asked])
    assert done.exit_code == 0, done.output
    release = current_release(workspace.repository)
    assert release is not None
    contract = ModelContract.read(release.folder(workspace.repository, "recommend"))
    assert contract.preprocessing["key_id"] == load_key().key_id != key.key_id
    assert [len(ids) for ids in customers(Workspace(tmp_path / "other"), load_key())] == [
        len(i) for i in before
    ]
    assert "published anew as release" in done.output and load_key().secret.hex() not in done.output


def test_identities_under_a_foreign_key_are_refused_by_name(shop: Workspace) -> None:
    with pytest.raises(IngestError, match=KEY_FILE_VARIABLE):
        renew_workspace(shop, PseudonymKey("foreign", b"f" * 32))
    assert scan_table(shop.tables, "identities").select(pl.col("key_id").unique()).collect().item() == "old"
