"""The shop's answers are found by words, meaning and intent; without a sure one a person answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.answers import AnswerIndex, Weights, terms, total
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.understand import UnderstandRouter
from shopsight.training import language
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, write_tables
from shopsight.training.language.answers import answering, build, messages_of, read_entries
from shopsight.training.language.checkpoint import load
from tests.training.language_shop import ITEMS, SMALL, messages

LONGER = replace(SMALL, epochs=20, patience=20)
ANSWERS = [
    (
        "faq-1",
        "Where is my order?",
        "Open Orders in your account: a link beside the parcel.",
        "en",
        "order_status",
    ),
    ("faq-1", "我的订单到哪里了？", "请在订单页面查看物流链接。", "zh", "order_status"),
    (
        "faq-2",
        "How do I return something?",
        "Choose Return beside it and print the label.",
        "en",
        "return_item",
    ),
    ("faq-2", "怎么退货？", "请在订单旁选择退货，打印标签。", "zh", "return_item"),
    ("policy-1", None, "Personal data are kept for ten years, as the law asks.", "en", None),
    ("empty", "Is this answered?", "  ", "en", "order_status"),
]
# Nothing that the shop sells or knows; the intents' words are in none of them.
STRANGE = [
    "who won the election yesterday",
    "tell me a joke about cats",
    "昨天股市怎么样",
    "写一首关于月亮的诗",
    "convert ten miles into kilometres",
    "recipe for onion soup",
]


def write(root: Path, labelled: bool = True) -> Workspace:
    rows = messages()
    texts = [(m, t) for m, t, _, _ in rows]
    labels = [(m, "intent" if labelled else "sentiment", i if labelled else s, None) for m, _, i, s in rows]
    for number in range(240):
        text = f"{STRANGE[number % 6]} {ITEMS[number % 5] if number % 2 else ''} {number}"
        texts.append((f"x{number}", text))
        if labelled:
            labels.append((f"x{number}", "intent", "out_of_scope", None))
    frame: dict[str, Any] = {"message_id": [m for m, _ in texts], "text": [t for _, t in texts]}
    table = pl.DataFrame({n: frame.get(n, [None] * len(texts)) for n in SCHEMAS["messages"]}, strict=False)
    write_tables(
        root / "tables",
        {
            "messages": table.cast(SCHEMAS["messages"]),
            "labels": pl.DataFrame(labels, schema=SCHEMAS["labels"], orient="row"),
            "answers": pl.DataFrame(ANSWERS, schema=SCHEMAS["answers"], orient="row"),
        },
    )
    return Workspace(root)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = write(tmp_path_factory.mktemp("shop"))
    language.train(workspace, LONGER, lambda _: None)
    language.evaluate(workspace, LONGER)
    language.export(workspace, LONGER)
    return workspace


@pytest.fixture(scope="module")
def ask(shop: Workspace) -> Any:
    session = onnxruntime.InferenceSession(str(shop.models / "intent_encoder" / "model.onnx"))
    router = UnderstandRouter(shop.models / "understand", "1")

    def member(_: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def understand(text: str) -> tuple[str, str, bool]:
        row = Row({"TEXT": np.array([text.encode()], dtype=np.object_)})
        (answer,) = router.answer([row], member)
        assert isinstance(answer, dict), answer
        names = ("ANSWER", "ANSWER_SOURCE")
        said, source = (answer[name][0].decode() for name in names)
        return said, source, bool(answer["IS_OUT_OF_SCOPE"][0])

    return understand


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("where is the jacket i ordered?", "faq-1:en"),
        ("我的外套到哪里了？", "faq-1:zh"),
        ("i want to return the kettle", "faq-2:en"),
        ("这双鞋子可以退货吗", "faq-2:zh"),
    ],
)
def test_a_question_gets_the_answer_in_its_language_with_its_source(ask: Any, text: str, source: str) -> None:
    said, found, outside = ask(text)
    assert (found, outside) == (source, False)
    assert [a for i, _, a, lang, _ in ANSWERS if source == f"{i}:{lang}"] == [said]


@pytest.mark.parametrize("text", [*STRANGE, "is the lamp waterproof", "手机防水吗"])
def test_what_the_shop_has_not_written_is_left_to_a_person(ask: Any, text: str) -> None:
    said, source, outside = ask(text)
    assert (said, source) == ("", "")
    assert outside == (text in STRANGE)


def test_serving_scores_as_training_does(shop: Workspace, ask: Any) -> None:
    model = load(shop)
    answers = answering(shop, model)
    assert answers is not None
    texts = [*(text for _, text, _, _ in messages(60, seed=8)), *STRANGE, "<b>&amp;'; DROP TABLE x;--", "🙂"]
    for text, message in zip(texts, messages_of(model, texts), strict=True):
        if answers.margin(message) > 1e-4:
            found = answers.best(message)
            assert ask(text)[1] == (found.source if found else "")


def test_words_are_scored_by_bm25_as_a_share_of_all_that_was_asked(shop: Workspace) -> None:
    model, entries = load(shop), read_entries(shop)
    index = build(model, entries)
    documents = [
        [t for t in model.tokenizer.encode(f"{e.question} {e.answer}").ids if t > 1] for e in entries
    ]
    mean = sum(map(len, documents)) / len(documents) + 1  # the leading token counts in the length
    (message,) = messages_of(model, ["where is the order with the label please"])

    def said(document: list[int], term: int) -> tuple[float, float]:
        grams = [*document, *(a * 2**32 + b for a, b in pairwise(document))]
        having = sum(term in [*d, *(a * 2**32 + b for a, b in pairwise(d))] for d in documents)
        rarity = log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        count, norm = grams.count(term), 1.2 * (0.25 + 0.75 * (len(document) + 1) / mean)
        return rarity * count * 2.2 / (count + norm), rarity

    asked = sorted(set(terms(message.tokens).tolist()))
    for place, document in enumerate(documents):
        if not index.arrays["is_chinese"][place]:
            each = [said(document, term) for term in asked]
            expected = sum(score for score, _ in each) / sum(rarity for _, rarity in each)
            assert index.parts(message)[0, place] == pytest.approx(expected, rel=1e-5)


def test_entries_without_an_answer_are_left_out_and_policies_are_found_by_their_words(
    shop: Workspace,
) -> None:
    model = load(shop)
    entries = read_entries(shop)
    assert [e.source for e in entries] == ["faq-1:en", "faq-1:zh", "faq-2:en", "faq-2:zh", "policy-1"]
    (message,) = messages_of(model, ["for how many years are personal data kept"])
    score = total(build(model, entries).parts(message), Weights(1.0, 0.0, 0.0))
    assert entries[int(score.argmax())].source == "policy-1"


def test_the_figures_tell_recall_and_what_is_handed_over(shop: Workspace) -> None:
    figures = language.evaluate(shop, LONGER)["answers"]
    assert figures["num_answers"] == 5 and figures["split"] == "test"
    assert figures["recall_at_1"] > 0.9 and figures["recall_at_5"] >= figures["recall_at_1"]
    assert figures["right_of_answered"] > 0.95 and figures["share_answered"] > 0.8
    assert figures["share_of_those_handed_over"] > 0.9


def test_goldens_show_answers_and_none(shop: Workspace) -> None:
    goldens = read_goldens(shop.models / "understand")
    told = [{t.name: t.data[0][0] for t in g.answer} for g in goldens]
    assert {bool(answer["ANSWER"]) for answer in told} == {True, False}
    assert all(bool(answer["ANSWER"]) == bool(answer["ANSWER_SOURCE"]) for answer in told)
    ModelContract.read(shop.models / "understand").verify_files(shop.models / "understand")
    assert AnswerIndex.read(shop.models / "understand").entries == tuple(read_entries(shop))


def test_without_labelled_intents_the_threshold_comes_from_the_answers_themselves(shop: Workspace) -> None:
    model = load(shop)
    others = [(i, q, a, lang, None) for i, q, a, lang, _ in ANSWERS]
    table = pl.DataFrame(others, schema=SCHEMAS["answers"], orient="row")
    workspace = write(shop.root / "unlabelled")
    write_tables(workspace.tables, {"answers": table})
    answers = answering(workspace, model)
    assert answers is not None and "own questions" in answers.rule.chosen_on
    (same, other) = messages_of(model, ["Where is my order?", "what does the moon weigh"])
    found = answers.best(same)
    assert found is not None and found.source == "faq-1:en"
    assert answers.best(other) is None
