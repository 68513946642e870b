"""Texts of others that name a customer are found in any spelling, and masked for good where asked."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.phrases import CONTACT_FIELDS, Finder, phrases_of
from shopsight.training.data.forgetting import Gone
from shopsight.training.data.ingest import ingest
from shopsight.training.data.intent_examples import SCHEMA as TAUGHT
from shopsight.training.data.intent_examples import read_taught, write_taught
from shopsight.training.data.tables import scan_table
from shopsight.training.privacy.forget import forget, look
from tests.training.privacy.raw_shop import write_raw

KEY = PseudonymKey("test", b"k" * 32)


def finder(*people: dict[str, str]) -> Finder:
    contacts = pl.DataFrame(
        [{n: p.get(n) for n in CONTACT_FIELDS} for p in people],
        schema_overrides=dict.fromkeys(CONTACT_FIELDS, pl.String),
    )
    return Finder(phrases_of(contacts, pl.Series([i == 0 for i in range(len(people))])))


MARA = {
    "given_name": "Mara Jane",
    "family_name": "Quill",
    "email": "m.quill+shop@post.example",
    "phone": "+1 555 010 2001",
}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ask MARA QUILL, please", "ask [name], please"),
        ("Quill, Mara Jane lives here", "[name] lives here"),
        ("Márä  Quíll", "[name]"),
        ("write to M.Quill@post.example!", "write to [mail]!"),
        ("call (555) 010-2001 or 0015550102001", "call [phone] or [phone]"),
        ("call +15550102001", "call [phone]"),
        ("Mara asked; Quill did not", "Mara asked; Quill did not"),
        ("order 15550102001234567", "order 15550102001234567"),
        ("Tamara Quillon", "Tamara Quillon"),
    ],
)
def test_a_person_is_found_by_name_mail_and_phone(text: str, masked: str) -> None:
    assert finder(MARA).masked(text) == masked


def test_chinese_and_whole_names_and_one_name_alone() -> None:
    assert finder({"full_name": "王小明"}).masked("请把灯寄给王小明，谢谢") == "请把灯寄给[name]，谢谢"
    assert finder({"full_name": "Mara Quill"}).masked("from quill mara") == "from [name]"
    assert finder({"full_name": "Cher"}).masked("Cher was here") == "Cher was here"
    assert finder({"given_name": "Mara"}).masked("Mara was here") == "Mara was here"


def test_a_mail_address_that_many_have_names_nobody() -> None:
    desk = {"email": "no-reply@shop.example"}
    assert finder(desk, desk).masked("no-reply@shop.example") == "[mail]"
    assert finder(*[desk] * 8).masked("no-reply@shop.example") == "no-reply@shop.example"


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Workspace, Path]:
    """Person 3 is named by person 4, in a message and in a refused row, and in what taught an intent."""
    sources = write_raw(tmp_path / "raw", 12)
    chats = sources.parent / "chats.jsonl"
    name, mail = f"Name3 Sur{3 * 7919}", "p3@mail.test"
    said = {
        "account": "W00004",
        "id": "m400",
        "text": f"the same lamp for {name}",
        "at": "2025-03-01 10:00:00",
    }
    late = {"account": "W00004", "id": "m401", "text": f"and {mail}", "at": "soon"}
    chats.write_text(chats.read_text() + json.dumps(said) + "\n" + json.dumps(late) + "\n", encoding="utf-8")
    workspace = Workspace(tmp_path / "workspace")
    ingest(sources, workspace, KEY)
    taught = [("where is my parcel number 3", "parcel"), (f"a lamp for {name}", "lamp"), ("my lamp", "lamp")]
    write_taught(workspace.taught, pl.DataFrame(taught, schema=TAUGHT, orient="row"))
    return workspace, sources


def message(workspace: Workspace) -> str:
    return str(
        scan_table(workspace.tables, "messages").filter(pl.col("message_id") == "m400").collect()["text"][0]
    )


def test_mentions_are_reported_and_stay_unless_masking_is_asked(shop: tuple[Workspace, Path]) -> None:
    workspace, _ = shop
    plan = look(workspace, KEY, "app", ["A00003"])
    assert plan.mentions is not None
    found = {(m.place, m.row, m.kinds) for m in plan.mentions}
    refused = next(m.row for m in plan.mentions if m.place == "quarantine")
    assert found == {
        ("tables/messages", "m400", ("name",)),
        ("quarantine", refused, ("mail",)),
        ("taught", "example 2", ("name",)),
    }
    assert "Sur23757" not in json.dumps(plan.as_dict(), default=str)
    receipt = forget(workspace, KEY, "app", ["A00003"])
    assert receipt.mentions == 3 and not receipt.masked and "Sur23757" in message(workspace)
    assert receipt.erased["taught"] == 1  # what they wrote themselves
    assert read_taught(workspace.taught)["text"].to_list() == ["a lamp for Name3 Sur23757", "my lamp"]


def test_masking_holds_at_every_ingest_to_come_and_after_a_rotation(shop: tuple[Workspace, Path]) -> None:
    workspace, sources = shop
    forget(workspace, KEY, "app", ["A00003"], mask=True)
    assert message(workspace) == "the same lamp for [name]"
    assert read_taught(workspace.taught)["text"].to_list() == ["a lamp for [name]", "my lamp"]
    ingest(sources, workspace, KEY)
    assert message(workspace) == "the same lamp for [name]"
    ingest(sources, workspace, PseudonymKey("next", b"n" * 32, renews=KEY))
    assert message(workspace) == "the same lamp for [name]"
    for path in (path for path in workspace.root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix in (".parquet", ".arrow"):
            read = pl.read_parquet if path.suffix == ".parquet" else pl.read_ipc
            content = read(path).select(pl.col(pl.String)).write_json().encode()
        assert b"Sur23757" not in content and b"p3@mail.test" not in content, path


def test_a_second_customer_is_searched_for_though_the_intake_went(shop: tuple[Workspace, Path]) -> None:
    workspace, _ = shop
    forget(workspace, KEY, "web", ["W00005"])
    plan = look(workspace, KEY, "app", ["A00003"])
    assert plan.mentions is not None and len(plan.mentions) == 3
    (workspace.intake / "contacts.arrow").unlink()
    assert look(workspace, KEY, "app", ["A00003"]).mentions is None


def test_nothing_is_hashed_where_nothing_is_masked() -> None:
    from shopsight.serving.forgotten import Forgotten

    texts = pl.Series("text", ["Mara Quill", None])
    assert Gone(Forgotten(), KEY).masked(texts).equals(texts, null_equal=True)
