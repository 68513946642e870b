"""Training: it learns, repeats itself, goes on where it was killed, and leaves no half model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shopsight.training import language
from shopsight.training.artifacts.trained_state import NotTrained, StateDamaged, is_trained
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language import trainer
from shopsight.training.language.checkpoint import load
from shopsight.training.language.corpus import LanguageError
from shopsight.training.language.model import Encoder, SmallBody
from tests.training.language_shop import SMALL, messages, pretend_trained, small_shop, weights, write_shop


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = small_shop(tmp_path_factory.mktemp("shop"))
    language.train(workspace, SMALL, quiet)
    return workspace


def test_intent_and_sentiment_of_unseen_messages_are_found_in_both_languages(trained: Workspace) -> None:
    unseen = messages(200, seed=5)
    said = load(trained).predict([text for _, text, _, _ in unseen])
    assert np.mean([a == b[2] for a, b in zip(said.labels("intent"), unseen, strict=True)]) > 0.97
    assert np.mean([a == b[3] for a, b in zip(said.labels("sentiment"), unseen, strict=True)]) > 0.97
    assert said.confidence("intent").mean() > 0.8


def test_evaluation_sets_the_linear_model_beside(trained: Workspace) -> None:
    figures = language.evaluate(trained, SMALL)
    for task in ("intent", "sentiment"):
        assert figures[task]["split"] == "test"
        assert figures[task]["accuracy"]["value"] > 0.95
        assert figures[task]["linear_accuracy"]["value"] > 0.9
        assert figures[task]["calibration_error"] < 0.1


def test_what_was_learned_from_is_never_evaluated_on(trained: Workspace, tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="trained with other splits than these"):
        language.evaluate(trained, replace(SMALL, seed=1))
    workspace = small_shop(tmp_path)
    language.train(workspace, replace(SMALL, epochs=1), quiet)
    small_shop(tmp_path, sentiment=False)
    for use in (language.evaluate, language.export):
        with pytest.raises(NotTrained, match="changed since language was trained; run 'shopsight train"):
            use(workspace, SMALL)


def test_equal_seeds_give_equal_weights_and_others_do_not(trained: Workspace, tmp_path: Path) -> None:
    again = small_shop(tmp_path / "again")
    language.train(again, SMALL, quiet)
    first = weights(again).read_bytes()
    assert first == weights(trained).read_bytes()
    language.train(again, replace(SMALL, seed=1, epochs=1), quiet)
    assert weights(again).read_bytes() != first


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_to_the_same_weights(trained: Workspace, tmp_path: Path) -> None:
    workspace = small_shop(tmp_path)
    epochs: list[str] = []

    def until_the_third(line: str) -> None:
        epochs.append(line)
        if "epoch 3" in line:
            raise Killed

    with pytest.raises(Killed):
        language.train(workspace, SMALL, until_the_third)
    assert not is_trained(workspace, "language")
    later: list[str] = []
    language.train(workspace, SMALL, later.append)
    assert any("epoch 3 " in line for line in later) and not any("epoch 2 " in line for line in later)
    assert weights(workspace).read_bytes() == weights(trained).read_bytes()
    folder = weights(workspace).parent
    assert sorted(p.name for p in folder.parent.iterdir()) == ["state.json", folder.name]


def test_a_run_on_other_settings_does_not_go_on_from_a_killed_one(tmp_path: Path) -> None:
    workspace = small_shop(tmp_path)

    def once(line: str) -> None:
        if "epoch 2" in line:
            raise Killed

    with pytest.raises(Killed):
        language.train(workspace, SMALL, once)
    lines: list[str] = []
    language.train(workspace, replace(SMALL, learning_rate=5e-3, epochs=1), lines.append)
    assert any("epoch 1 of 1" in line for line in lines)


def test_a_failed_run_leaves_the_last_model(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights(trained).read_bytes()

    def broken(*_: object) -> float:
        raise Killed

    monkeypatch.setattr(trainer._Run, "one_epoch", broken)
    with pytest.raises(Killed):
        language.train(trained, replace(SMALL, seed=7), quiet)
    assert weights(trained).read_bytes() == before


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(NotTrained, match="no trained language model; run 'shopsight train language'"):
        load(workspace)
    write_shop(tmp_path, [], [])
    path = pretend_trained(workspace)
    with pytest.raises(LanguageError, match=r"model.safetensors: not a readable checkpoint .* train again"):
        load(workspace)
    path.write_bytes(b"changed")
    with pytest.raises(StateDamaged, match=r"model.safetensors: missing, cut off or changed"):
        load(workspace)


def test_few_messages_are_read_more_often(tmp_path: Path) -> None:
    lines: list[str] = []
    config = replace(SMALL, epochs=1, least_steps=30, patience=1)
    figures = language.train(small_shop(tmp_path), config, lines.append)
    steps_per_epoch = -(-figures["training_texts"] // SMALL.batch_size)
    assert any(f"of {-(-30 // steps_per_epoch)}: loss" in line for line in lines)


def test_too_few_labels_to_validate_on_are_refused(tmp_path: Path) -> None:
    texts = [(f"m{i}", f"text {i}") for i in range(4)]
    labels = [(f"m{i}", "intent", "ab"[i % 2], None) for i in range(4)]
    with pytest.raises(LanguageError, match="no intent label is left for validation"):
        language.train(write_shop(tmp_path, texts, labels), SMALL, quiet)


def test_padding_and_batch_mates_do_not_change_what_is_said() -> None:
    torch.manual_seed(0)
    encoder = _encoder()
    for length in (1, 2, 9):
        ids, points = torch.randint(3, 600, (1, length)), torch.randint(97, 123, (1, 4 * length))
        alone = encoder(ids, torch.tensor([[length]]), points)["intent"]
        wide = torch.zeros(3, 32, dtype=torch.int64)
        wide[0, :length] = ids
        wide[1:] = torch.randint(3, 600, (2, 32))
        wide_points = torch.zeros(3, 256, dtype=torch.int64)
        wide_points[0, : 4 * length] = points
        wide_points[1:] = torch.randint(97, 123, (2, 256))
        among = encoder(wide, torch.tensor([[length], [32], [1]]), wide_points)["intent"][:1]
        torch.testing.assert_close(among, alone, atol=1e-5, rtol=1e-5)


def test_word_order_matters_to_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = _encoder()
    there = encoder.by_tokens(torch.tensor([[1, 7, 8, 9]]), torch.tensor([[4]]))["intent"]
    back = encoder.by_tokens(torch.tensor([[1, 9, 8, 7]]), torch.tensor([[4]]))["intent"]
    assert (there - back).abs().max() > 1e-4


def _encoder() -> Encoder:
    encoder = Encoder(SMALL, SmallBody(SMALL, 600), {"intent": 5}).eval()
    torch.nn.init.normal_(encoder.ngrams.table.weight)
    encoder.ngrams.weigh(torch.ones(SMALL.ngram_slots), 4)
    return encoder
