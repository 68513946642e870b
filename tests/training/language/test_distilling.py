"""A small model learns from what a larger one says, also of messages that nobody labelled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopsight.training import language
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.checkpoint import load
from shopsight.training.language.corpus import NO_LABEL, OUT_OF_SCOPE, LanguageError, read_corpus
from shopsight.training.language.targets import Targets
from tests.training.language_shop import SMALL, messages, small_shop, weights, write_shop

FEW = 24


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = small_shop(tmp_path_factory.mktemp("teacher"))
    language.train(workspace, SMALL, lambda _: None)
    return weights(workspace)


def barely_labelled(root: Path) -> Workspace:
    rows = messages(480, seed=3)
    labels = []
    for n, (m, _, intent, mood) in enumerate(rows[:FEW]):
        split = "validation" if n % 3 == 0 else "train"
        labels += [(m, "intent", intent, split), (m, "sentiment", mood, split)]
    return write_shop(root, [(m, t) for m, t, _, _ in rows], labels)


def _accuracy(workspace: Workspace) -> float:
    unseen = messages(200, seed=5)
    said = load(workspace).predict([text for _, text, _, _ in unseen])
    return float(np.mean([a == b[2] for a, b in zip(said.labels("intent"), unseen, strict=True)]))


def test_a_teacher_makes_unlabelled_messages_count(teacher: Path, tmp_path: Path) -> None:
    alone, taught = barely_labelled(tmp_path / "alone"), barely_labelled(tmp_path / "taught")
    language.train(alone, SMALL, lambda _: None)
    figures = language.train(taught, replace(SMALL, teacher=str(teacher)), lambda _: None)
    assert figures["training_texts"] > 400
    assert _accuracy(taught) > max(0.97, _accuracy(alone) + 0.05)


def test_targets_mix_labels_with_what_the_teacher_says(tmp_path: Path) -> None:
    corpus = read_corpus(barely_labelled(tmp_path), SMALL)
    labelled, free = (
        corpus.rows("train", "intent")[:1],
        np.flatnonzero(corpus.label["intent"] == NO_LABEL)[:1],
    )
    rows = np.concatenate([labelled, free])
    said = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=np.float32)
    shares, known = Targets(corpus, rows, {"intent": said}, 0.25).of("intent", np.arange(2))
    expected = 0.25 * said[0]
    expected[corpus.label["intent"][labelled[0]]] += 0.75
    assert known.tolist() == [True, True]
    assert np.allclose(shares.numpy(), [expected, said[1]])
    corpus.label["intent"][free[0]] = OUT_OF_SCOPE
    assert Targets(corpus, rows, {"intent": said}, 0.25).of("intent", np.arange(2))[1].tolist() == [
        True,
        False,
    ]


def test_a_teacher_of_other_intents_is_refused_by_name(teacher: Path, tmp_path: Path) -> None:
    rows = messages(120)
    labels = [(m, "intent", "other" if n % 2 else "return_item", None) for n, (m, *_) in enumerate(rows)]
    workspace = write_shop(tmp_path, [(m, t) for m, t, _, _ in rows], labels)
    with pytest.raises(LanguageError, match="other intents than these messages have \\('o"):
        language.train(workspace, replace(SMALL, teacher=str(teacher)), lambda _: None)
    with pytest.raises(LanguageError, match="no trained language model"):
        language.train(workspace, replace(SMALL, teacher=str(tmp_path / "gone")), lambda _: None)
