"""Example similarity: how near a message is to the nearest known one, in words and in meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from shopsight.serving.routing.scope import Abstention, confidence
from shopsight.serving.routing.texts import read_texts
from shopsight.training import language
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.calibration import remember
from shopsight.training.language.checkpoint import INPUTS, LanguageModel, as_tensors, load, load_file
from shopsight.training.language.graph import write_graph
from shopsight.training.language.nearest_example import COLUMNS
from tests.training.language_shop import SMALL, small_shop

KNOWN = ["where is my jacket", "i want my money back", "我的外套到哪里了", "a"]
ASKED = ["where is my jacket", "where is my kettle", "zzzz qqqq", "我的鞋子到哪里了", "x"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small_shop(tmp_path_factory.mktemp("shop"))
    language.train(workspace, SMALL, lambda _: None)
    return workspace


@pytest.fixture
def model(shop: Workspace) -> LanguageModel:
    return load(shop)


def vector(model: LanguageModel, text: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Words and meaning of one text, in float64, n-gram by n-gram."""
    texts = read_texts(model.tokenizer, [text], model.config.max_tokens)
    token_id, _, code_point = as_tensors(texts.padded([0]))
    ngrams = model.encoder.ngrams
    words = np.zeros(COLUMNS)
    for slot in ngrams.ids(token_id, code_point)[0].tolist():
        if slot == 0:
            continue
        weight = float(ngrams.rarity[slot]) or float(ngrams.rarity.max())
        hashed = slot * 2_654_435_761 % (2**31 - 1)
        words[hashed % COLUMNS] += weight * (hashed // COLUMNS % 2 * 2 - 1)
    return np.concatenate([words / np.linalg.norm(words), model.embed([text])[0].astype(np.float64)])


def test_it_is_the_mean_of_both_cosines_to_the_nearest_known_message(model: LanguageModel) -> None:
    remember(model, KNOWN)
    known = [vector(model, text) for text in KNOWN]
    wanted = [max(float(vector(model, text) @ other) for other in known) / 2 for text in ASKED]
    told = model.predict(ASKED).example_similarity
    assert told is not None
    np.testing.assert_allclose(told, wanted, atol=3e-3)  # known ones are kept as int8
    assert told[0] == pytest.approx(1, abs=3e-3) and told[1] > told[2]


def test_it_depends_neither_on_padding_nor_on_the_rest_of_the_batch(model: LanguageModel) -> None:
    remember(model, KNOWN)
    together = model.predict([*ASKED, "long " * 40]).example_similarity
    alone = [model.predict([text]).example_similarity for text in ASKED]
    assert together is not None
    np.testing.assert_allclose(together[: len(ASKED)], np.concatenate(alone), atol=1e-6)  # type: ignore[arg-type]
    assert model.predict([]).example_similarity is not None


def test_the_graph_and_the_file_give_the_same(model: LanguageModel, tmp_path: Path) -> None:
    remember(model, KNOWN)
    write_graph(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    texts = read_texts(model.tokenizer, ASKED, model.config.max_tokens)
    padded = texts.padded(range(len(ASKED)))
    (told,) = session.run(["EXAMPLE_SIMILARITY"], {name: padded[name] for name in INPUTS})
    np.testing.assert_allclose(told[:, 0], model.predict(ASKED).example_similarity, atol=1e-5)  # type: ignore[arg-type]
    model.write(tmp_path / "model.safetensors")
    again = load_file(tmp_path / "model.safetensors")
    found, expected = (one.predict(ASKED).example_similarity for one in (again, model))
    assert found is not None and expected is not None
    np.testing.assert_array_equal(found, expected)


def test_without_examples_out_of_scope_strange_messages_are_still_told_apart(model: LanguageModel) -> None:
    assert model.abstention is not None and model.abstention.score == "similarity_confidence"
    strange = ["convert ten miles into kilometres", "who won the election", "写一首关于月亮的诗"]
    usual = ["where is the kettle i ordered", "i want to return the shoes", "我的外套到哪里了"]
    least = model.scope_score(model.predict(usual)).min()
    assert least > model.scope_score(model.predict(strange)).max()


def test_a_similarity_score_is_the_mean_of_certainty_words_and_meaning() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], dtype=np.float32)
    near = np.array([1.0, -0.25], dtype=np.float32)
    rule = Abstention("similarity_confidence", 0.5, 2.0)
    np.testing.assert_allclose(rule.values(logits, near), (confidence(logits, 2.0) + 2 * near) / 3)
    assert rule.accepts(logits, near).tolist() == [True, False]


def test_a_model_whose_score_is_another_keeps_no_message(shop: Workspace) -> None:
    model = load(shop)
    assert 0 < len(model.encoder.example_similarity.known) <= 2_000
    remember(model, [])
    assert model.predict(ASKED).example_similarity is None
    assert torch.equal(
        model.encoder.example_similarity.known, torch.zeros(0, COLUMNS + 3 * SMALL.width, dtype=torch.int8)
    )
    assert replace(model, abstention=Abstention("confidence", 0.5, 1.0)).in_scope(model.predict(ASKED)).any()
