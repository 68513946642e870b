"""Messages that want several things: learned as such, told as such, and served as they were learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from shopsight.serving.contract import ModelContract, read_goldens
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.understand import UnderstandRouter
from shopsight.training import language
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.calibration import several
from shopsight.training.language.checkpoint import load
from shopsight.training.language.corpus import SEVERAL, read_corpus
from shopsight.training.language.metrics import micro_f1
from shopsight.training.language.targets import Targets
from tests.training.language_shop import ITEMS, PHRASES, SMALL, messages, small_shop, write_shop


def doubles(num: int, seed: int) -> list[tuple[str, str, tuple[str, str]]]:
    """Rows of (message id, text, its two intents)."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        first, second = rng.choice(list(PHRASES), 2, replace=False)
        parts = [PHRASES[n][rng.integers(4)].format(ITEMS[rng.integers(len(ITEMS))]) for n in (first, second)]
        rows.append((f"d{i}", f"{parts[0]}, {parts[1]}", (str(first), str(second))))
    return rows


def shop_of_doubles(root: Path) -> Workspace:
    singles, pairs = messages(300), doubles(300, seed=1)
    labels = [(m, "intent", name, None) for m, _, name, _ in singles]
    labels += [(m, "intent", name, None) for m, _, names in pairs for name in names]
    return write_shop(root, [(m, t) for m, t, _, _ in singles] + [(m, t) for m, t, _ in pairs], labels)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = shop_of_doubles(tmp_path_factory.mktemp("several"))
    language.train(workspace, SMALL, lambda _: None)
    return workspace


def test_the_corpus_keeps_every_intent_of_a_message(shop: Workspace) -> None:
    corpus = read_corpus(shop, SMALL)
    assert (corpus.label["intent"] == SEVERAL).sum() == 300 == len(corpus.several)
    rows = np.flatnonzero(corpus.label["intent"] == SEVERAL)
    assert (corpus.classes_of("intent", rows).sum(1) == 2).all()
    assert not np.isin(rows, corpus.rows("train", "intent")).any()  # one class does not label them
    assert {corpus.split[row] for row in rows} == {0, 1, 2}


def test_each_intent_is_learned_as_there_or_not(shop: Workspace) -> None:
    corpus = read_corpus(shop, SMALL)
    rows = corpus.rows_of("train", "intent")
    targets = Targets(corpus, rows, {}, 0.5)
    wanted, known = targets.of("intent", np.arange(len(rows)))
    assert known.all()
    assert wanted.sum(1).tolist() == [
        2.0 if several else 1.0 for several in corpus.label["intent"][rows] == SEVERAL
    ]
    logits = torch.randn(len(rows), 3, dtype=torch.float64)
    share = 1 / (1 + np.exp(-logits.numpy()))
    slow = -np.mean(np.sum(np.where(wanted.numpy() > 0, np.log(share), np.log(1 - share)), axis=1))
    found = targets.loss("intent", logits, wanted.to(torch.float64), known, 0.1)
    assert float(found) == pytest.approx(float(slow), rel=1e-9)


def test_both_intents_of_unseen_messages_are_found_and_single_ones_stay_single(shop: Workspace) -> None:
    model = load(shop)
    assert model.several_threshold is not None
    pairs, singles = doubles(100, seed=9), messages(100, seed=9)
    names = model.classes["intent"]
    truth = np.array(
        [[name in wanted for name in names] for _, _, wanted in pairs]
        + [[name == intent for name in names] for _, _, intent, _ in singles]
    )
    texts = [t for _, t, _ in pairs] + [t for _, t, _, _ in singles]
    said = several(model.predict(texts).probability("intent"), model.several_threshold)
    assert micro_f1(truth, said) > 0.95
    figures = language.evaluate(shop, SMALL)["several_intents"]
    assert figures["micro_f1"] > 0.95
    assert figures["messages"] > figures["messages_with_several"] > 20
    assert 0.5 < figures["linear_micro_f1"] <= 1.0


def test_the_router_tells_all_intents_likeliest_first(shop: Workspace) -> None:
    language.export(shop, SMALL)
    model = load(shop)
    session = onnxruntime.InferenceSession(str(shop.models / "intent_encoder" / "model.onnx"))
    router = UnderstandRouter(shop.models / "understand", "1")

    def ask(_: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(inputs)), strict=True))

    texts = [t for _, t, _ in doubles(30, seed=3)]
    rows = [Row({"TEXT": np.array([t.encode()], dtype=np.object_)}, "") for t in texts]
    likely = model.predict(texts).probability("intent")
    assert model.several_threshold is not None
    for answer, expected in zip(router.answer(rows, ask), likely, strict=True):
        assert isinstance(answer, dict)
        wanted = [i for i in np.argsort(-expected) if expected[i] >= model.several_threshold]
        told = [name.decode() for name in answer["INTENTS"]]
        assert told == [model.classes["intent"][i] for i in wanted or [int(expected.argmax())]]
        assert told[0] == answer["INTENT"][0].decode()
        assert not answer["IS_OUT_OF_SCOPE"][0]  # two intents are not half of each


def test_intents_are_in_the_contract_only_of_shops_that_have_several(shop: Workspace, tmp_path: Path) -> None:
    language.export(shop, SMALL)
    assert "INTENTS" in [o.name for o in ModelContract.read(shop.models / "understand").outputs]
    goldens = read_goldens(shop.models / "understand")
    assert all("INTENTS" in [tensor.name for tensor in golden.answer] for golden in goldens)
    single = small_shop(tmp_path)
    language.train(single, SMALL, lambda _: None)
    language.export(single, SMALL)
    assert load(single).several_threshold is None
    assert "INTENTS" not in [o.name for o in ModelContract.read(single.models / "understand").outputs]


def test_micro_f1_counts_pairs_of_message_and_class() -> None:
    truth = np.array([[1, 1, 0], [0, 0, 1]], dtype=np.bool_)
    said = np.array([[1, 0, 0], [0, 1, 1]], dtype=np.bool_)
    assert micro_f1(truth, said) == pytest.approx(2 * 2 / (3 + 3))
    assert np.isnan(micro_f1(truth[:0], said[:0]))
