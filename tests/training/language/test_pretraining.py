"""Masked-language pre-training: what is hidden, that it is learned, and that it teaches before labels do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shopsight.serving.routing.texts import read_texts
from shopsight.training import language
from shopsight.training.language import trainer
from shopsight.training.language.checkpoint import load
from shopsight.training.language.model import SmallBody
from shopsight.training.language.pretraining import _hide, pretrain
from shopsight.training.language.tokenizer import MASK, START, train_tokenizer
from tests.training.language_shop import SMALL, messages, small_shop


def test_padding_and_the_leading_token_are_never_hidden_and_every_message_asks_for_something() -> None:
    torch.manual_seed(0)
    length = torch.randint(2, 20, (500, 1))
    token_id = torch.randint(3, 100, (500, 20)) * (torch.arange(20)[None, :] < length)
    token_id[:, 0] = START
    shown, asked = _hide(token_id, length, MASK, 100)
    assert not asked[:, 0].any()
    assert not (asked & (torch.arange(20)[None, :] >= length)).any()
    assert asked.any(1).all()
    assert torch.equal(shown[~asked], token_id[~asked])
    fate = shown[asked]
    assert float((fate == MASK).float().mean()) == pytest.approx(0.8, abs=0.05)
    assert float((fate == token_id[asked]).float().mean()) == pytest.approx(0.1, abs=0.04)
    of_long = asked[length.ravel() > 12].float().sum(1) / (length[length > 12].float() - 1)
    assert float(of_long.mean()) == pytest.approx(0.15, abs=0.03)


def test_hidden_tokens_are_guessed_far_better_than_by_their_frequency() -> None:
    texts = [text for _, text, _, _ in messages(400)]
    config = replace(SMALL, pretrain_epochs=12)
    tokenizer = train_tokenizer(texts, config.vocab_size, config.max_tokens)
    read = read_texts(tokenizer, texts, config.max_tokens)
    torch.manual_seed(0)
    body = SmallBody(config, tokenizer.get_vocab_size())
    losses = pretrain(body, tokenizer, read, config, lambda _: None)
    counts = np.bincount(np.concatenate([row[1:] for row in read.tokens]))
    share = counts[counts > 0] / counts.sum()
    entropy = -float((share * np.log(share)).sum())
    assert losses[-1] < 0.7 * entropy < losses[0]


def test_a_killed_run_goes_on_without_pretraining_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, pretrain_epochs=2, epochs=3)
    whole = small_shop(tmp_path / "whole")
    language.train(whole, config, lambda _: None)
    killed = small_shop(tmp_path / "killed")

    class KilledError(Exception):
        pass

    def die(line: str) -> None:
        if line.startswith("epoch 2"):
            raise KilledError

    with pytest.raises(KilledError):
        language.train(killed, config, die)
    monkeypatch.setattr(trainer, "pretrain", lambda *_: pytest.fail("pre-trained a second time"))
    language.train(killed, config, lambda _: None)
    one, other = (load(w).encoder.state_dict() for w in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_encoder_is_not_asked_to_learn() -> None:
    with pytest.raises(ValueError, match="set tuning to full or lora"):
        replace(SMALL, encoder="any", tuning="frozen", pretrain_epochs=1)
