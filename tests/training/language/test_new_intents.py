"""A new intent is learned from a handful of examples, in seconds, without harm to those that are known."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.training import language
from shopsight.training.artifacts.trained_state import NotTrained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.cli.main import app
from shopsight.training.data.intent_examples import read_taught, write_taught
from shopsight.training.language.checkpoint import load
from shopsight.training.language.corpus import SPLITS, UNSPLIT, LanguageError, read_corpus
from shopsight.training.language.new_intents import Examples, learn, read_examples
from tests.training.language_shop import ITEMS, SMALL, messages, small_shop, weights

CONFIG = replace(SMALL, epochs=10)
NEW = [
    "how much is on my gift card for the {}",
    "gift card balance {} please",
    "礼品卡还剩多少钱{}",
    "查礼品卡余额{}",
]


def _examples(num: int, start: int = 0) -> Examples:
    texts = [NEW[i % 4].format(ITEMS[(i // 4 + i) % len(ITEMS)]) for i in range(start, start + num)]
    return Examples(texts, ["gift_card"] * num)


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    workspace = small_shop(tmp_path)
    language.train(workspace, CONFIG, lambda _: None)
    return workspace


def test_new_messages_are_found_known_ones_too_and_sentiment_stays(shop: Workspace) -> None:
    before = load(shop)
    figures = learn(shop, _examples(8), 0.01, lambda _: None)
    after = load(shop)
    assert after.classes["intent"] == (*before.classes["intent"], "gift_card")
    unseen = _examples(16, start=20)
    assert np.mean([said == "gift_card" for said in after.predict(unseen.texts).labels("intent")]) > 0.9
    known = messages(200, seed=7)
    texts = [text for _, text, _, _ in known]
    said = after.predict(texts)
    assert np.mean([a == m[2] for a, m in zip(said.labels("intent"), known, strict=True)]) > 0.97
    # Words that are no longer strange take a little of the weight of the others.
    assert said.labels("sentiment") == before.predict(texts).labels("sentiment")
    np.testing.assert_allclose(said.logits["sentiment"], before.predict(texts).logits["sentiment"], atol=0.2)
    assert figures["new_intents"]["gift_card"]["cross_validated_recall"] > 0.7
    assert figures["known_validation_accuracy_after"] >= figures["known_validation_accuracy_before"] - 0.01
    language.export(shop, CONFIG)


def test_what_would_harm_known_intents_is_refused_and_nothing_changes(shop: Workspace) -> None:
    before = weights(shop).read_bytes()
    misleading = [text for _, text, intent, _ in messages(60, seed=2) if intent == "order_status"][:15]
    with pytest.raises(LanguageError, match=r"would fall from .* nothing was changed"):
        learn(shop, Examples(misleading, ["something_else"] * len(misleading)), 0.01, lambda _: None)
    assert weights(shop).read_bytes() == before


def test_a_single_example_is_learned_and_said_to_be_few(shop: Workspace) -> None:
    lines: list[str] = []
    figures = learn(shop, _examples(1), 0.02, lines.append)
    assert lines == ["intent 'gift_card' has a single example: too few to learn"]
    assert figures["new_intents"]["gift_card"]["cross_validated_recall"] is None
    assert load(shop).predict(_examples(1).texts).labels("intent") == ["gift_card"]


def test_intents_are_added_one_after_the_other_and_no_training_forgets_them(shop: Workspace) -> None:
    before = load(shop).classes["intent"]
    days = ("monday", "sunday", "friday", "easter", "holidays", "saturday", "weekdays")
    opening = [*(f"are you open on {day}" for day in days), "are you open, mail me: mara.quill@post.example"]
    learn(shop, _examples(8), 0.02, lambda _: None)
    learn(shop, Examples(opening, ["hours"] * 8), 0.02, lambda _: None)
    assert load(shop).classes["intent"] == (*before, "gift_card", "hours")
    asked = [*_examples(8, start=20).texts, "are you open on tuesday"]
    wanted = [*["gift_card"] * 8, "hours"]
    assert load(shop).predict(asked).labels("intent") == wanted

    kept = read_taught(shop.taught)
    assert kept.height == 16 and kept["text"][15] == "are you open, mail me: [email]"
    (file,) = shop.taught.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(shop.taught.stat().st_mode) == 0o700

    language.train(shop, CONFIG, lambda _: None)
    assert set(load(shop).classes["intent"]) == {*before, "gift_card", "hours"}
    assert load(shop).predict(asked).labels("intent") == wanted
    figures = language.evaluate(shop, CONFIG)
    assert figures["intent"]["accuracy"]["value"] > 0.95  # labels and logits are of the same classes


def test_an_example_that_says_what_a_message_says_is_held_out_nowhere(tmp_path: Path) -> None:
    shop = small_shop(tmp_path)
    corpus = read_corpus(shop, CONFIG)
    text = corpus.texts[int(corpus.rows("test", "intent")[0])]
    write_taught(shop.taught, pl.DataFrame({"text": [text], "intent": ["something_new"]}))
    taught = read_corpus(shop, CONFIG)
    same = [row for row, one in enumerate(taught.texts) if one == text]
    held = {SPLITS[taught.split[row]] for row in same if taught.split[row] != UNSPLIT}
    assert held == {"train"} and "something_new" in taught.classes["intent"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("text,label\nhi,a\n", "no column 'intent'"),
        ("text,intent\nhi,a\n ,b\n", "line 3: text and intent must both be given"),
        ("text,intent\n", "holds no example"),
    ],
)
def test_bad_files_are_named_with_the_row(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "examples.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LanguageError, match=says) as refused:
        read_examples(path)
    assert str(path) in str(refused.value)


def test_the_command_says_what_it_did_and_refuses_in_one_line(shop: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    rows = [f'{{"text": "{t}", "intent": "gift_card"}}' for t in _examples(8).texts]
    path.write_text("\n".join(rows), encoding="utf-8")
    done = CliRunner().invoke(app, ["learn-intents", str(path), "--workspace", str(shop.root), "--json"])
    assert done.exit_code == 0 and '"gift_card"' in done.output
    small_shop(shop.root, sentiment=False)  # other tables now
    with pytest.raises(NotTrained, match="changed since language was trained; run"):
        learn(shop, _examples(4), 0.01, lambda _: None)
