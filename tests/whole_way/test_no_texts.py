"""What a customer wrote, and is called, lies in the messages table alone; after forgetting, nowhere."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.repository import publish
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import ingest
from shopsight.training.language.new_intents import Examples, learn
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.overrides import overridden
from shopsight.training.pipeline.recipes import Recipe, recipe
from shopsight.training.privacy.forget import Repository, forget, look
from shopsight.training.report.page import write_report
from tests.training.language_shop import ITEMS, PHRASES
from tests.training.privacy.raw_shop import write_raw
from tests.whole_way.conftest import QUICK

KEY = PseudonymKey("test", b"k" * 32)
PEOPLE, PLANTED = 60, 17
FAMILIES = ("language", "profiles", "value", "recommend")
# Written and named by one customer, often enough for a group, a vocabulary and a rare word of their own.
MARKERS = ("zyxwobble", "quillfritz", "vandergloom")
SAID = "my dear, the {} of zyxwobble quillfritz from vandergloom hums at night {}"
SMALL_MODEL = [
    "language.vocab_size=600", "language.width=32", "language.heads=2", "language.num_threads=1",
]  # fmt: skip


def write_shop(folder: Path) -> Path:
    """The raw shop with labelled messages of everybody, and many of one customer about no known intent."""
    sources = write_raw(folder, PEOPLE)
    rng, lines = np.random.default_rng(0), []
    for number in range(480):
        intent = list(PHRASES)[rng.integers(3)]
        text = PHRASES[intent][rng.integers(4)].format(ITEMS[rng.integers(len(ITEMS))])
        day = f"2025-{2 + number % 6:02d}-{1 + number % 27:02d} 12:00:00"
        lines.append({"account": f"W{number % PEOPLE:05d}", "id": f"t{number}", "text": f"{text} {number}",
                      "at": day, "intent": intent})  # fmt: skip
    for number in range(30):
        text = SAID.format(ITEMS[number % len(ITEMS)], number)
        lines.append({"account": f"W{PLANTED:05d}", "id": f"x{number}", "text": text,
                      "at": f"2025-08-{1 + number % 20:02d} 12:00:00",
                      "intent": "noise" if number % 2 else None})  # fmt: skip
    lines.append({"account": f"W{PLANTED:05d}", "id": "bad", "text": SAID.format("lamp", "x"), "at": "soon"})
    chats = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "chats.jsonl").write_text(chats, encoding="utf-8")
    text = sources.read_text(encoding="utf-8")
    sources.write_text(
        text.replace('text = "text"\n', 'text = "text"\nintent = "intent"\n'), encoding="utf-8"
    )
    accounts = (folder / "accounts.csv").read_text(encoding="utf-8")
    named = accounts.replace(f"Name{PLANTED} Sur{PLANTED * 7919}", "Zyxwobble Quillfritz")
    named = named.replace(f"p{PLANTED}@mail.test", "zyxwobble@vandergloom.example")
    (folder / "accounts.csv").write_text(named, encoding="utf-8")
    devices = (folder / "devices.csv").read_text(encoding="utf-8")
    devices = devices.replace(f"p{PLANTED}@mail.test", "zyxwobble@vandergloom.example")
    (folder / "devices.csv").write_text(devices, encoding="utf-8")
    return sources


def content(path: Path) -> str:
    """What is in a file, columns unpacked."""
    if path.suffix in (".parquet", ".arrow"):
        rows = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ipc(path, memory_map=False)
        return "\n".join(
            "\n".join(rows[name].cast(pl.String, strict=False).drop_nulls()) for name in rows.columns
        )
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("latin-1")


def places_of_markers(folder: Path) -> set[str]:
    """Where below a folder any of the markers stands: the first two parts of the path."""
    found = set()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        text = content(path).lower()
        if any(marker in text for marker in MARKERS):
            found.add("/".join(path.relative_to(folder).parts[:2]))
    return found


def learned(workspace: Workspace, chosen: Recipe) -> None:
    for family in FAMILIES:
        steps.train(workspace, chosen, family, lambda _: None)
        steps.evaluate(workspace, chosen, family)
    steps.export(workspace, chosen, FAMILIES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A shop that went the whole way twice and was taught an intent with what the customer wrote."""
    root = tmp_path_factory.mktemp("texts")
    workspace = Workspace(root / "workspace")
    ingest(write_shop(root / "raw"), workspace, KEY)
    chosen = overridden(recipe("default"), settings=[*QUICK, *SMALL_MODEL])
    learned(workspace, chosen)
    publish(workspace.models, workspace.repository)
    hums = [
        *(SAID.format(ITEMS[n], n) for n in range(4)),
        *(f"the {item} hums at night" for item in ITEMS[:6]),
    ]
    learn(workspace, Examples(hums, ["hums"] * len(hums)), 1.0, lambda _: None)
    steps.export(workspace, chosen, ("language",))
    publish(workspace.models, workspace.repository)
    write_report(workspace, title="Texts")
    return workspace


def test_texts_lie_in_messages_and_in_raw_rows_alone(shop: Workspace) -> None:
    assert places_of_markers(shop.root) == {
        "tables/messages", "taught/intents.parquet", "quarantine/refused.parquet", "intake/contacts.arrow",
        *(f"intake/{path.name}" for path in shop.intake.iterdir() if path.is_dir() and _is_raw(path)),
    }  # fmt: skip


def _is_raw(entry: Path) -> bool:
    return any(marker in content(path).lower() for path in entry.glob("*.arrow") for marker in MARKERS)


def test_after_forgetting_they_lie_nowhere(shop: Workspace) -> None:
    repositories = [Repository(shop.repository)]
    plan = look(shop, KEY, "web", [f"W{PLANTED:05d}"], repositories)
    receipt = forget(shop, KEY, "web", [f"W{PLANTED:05d}"], repositories, mask=True)
    assert places_of_markers(shop.root) == set()
    assert receipt.erased == plan.rows and receipt.erased["taught"] == 4
    written = 30 + 480 // PEOPLE
    assert receipt.erased["tables/messages"] == written and receipt.erased["tables/labels"] == written - 15
    assert plan.mentions == () and receipt.mentions == 0
