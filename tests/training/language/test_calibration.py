"""How the views of a message are mixed: by what validation shows each to be worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from shopsight.training.language.calibration import mixture
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.model import Encoder, SmallBody

CLASSES = 4


def told(truth: NDArray[np.int64], sure: float, noise: float, seed: int) -> NDArray[np.float32]:
    """Logits of a view that hints at the truth through noise, as surely as `sure` says."""
    drawn = np.random.default_rng(seed).normal(0, noise, (len(truth), CLASSES))
    return (sure * (np.eye(CLASSES)[truth] + drawn)).astype(np.float32)


@pytest.fixture
def truth() -> NDArray[np.int64]:
    return np.random.default_rng(7).integers(0, CLASSES, 3000)


def one_hot(truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.eye(CLASSES, dtype=np.bool_)[truth]


def reference(
    by_body: NDArray[np.float32], by_ngrams: NDArray[np.float32], truth: NDArray[np.int64], share: float
) -> float:
    """The least loss at a share, over a fine grid of temperatures."""
    mixed = 2 * (share * by_body.astype(np.float64) + (1 - share) * by_ngrams.astype(np.float64))
    losses = []
    for warmth in np.geomspace(0.25, 20, 400):
        likely = np.exp(mixed / warmth)
        likely /= likely.sum(1, keepdims=True)
        losses.append(-np.log(likely[np.arange(len(truth)), truth]).mean())
    return float(min(losses))


def test_views_that_know_as_much_share_alike_and_a_view_of_noise_is_hardly_heard(
    truth: NDArray[np.int64],
) -> None:
    alike = told(truth, 2, 0.5, 1), told(truth, 2, 0.5, 2)
    assert mixture(*alike, one_hot(truth), each=False) == pytest.approx(0.5)
    noise = told(truth, 2, 50, 3)
    assert mixture(noise, alike[0], one_hot(truth), each=False) == pytest.approx(0.1)
    assert mixture(alike[0], noise, one_hot(truth), each=False) == pytest.approx(0.9)


def test_the_mix_is_the_likeliest_and_beats_the_plain_sum_where_a_view_is_too_sure(
    truth: NDArray[np.int64],
) -> None:
    sure, unsure = told(truth, 12, 0.7, 4), told(truth, 2, 0.5, 5)
    share = mixture(sure, unsure, one_hot(truth), each=False)
    losses = {s: reference(sure, unsure, truth, s) for s in (0.1, 0.15, 0.2, 0.25, 0.5, 0.7, 0.9)}
    assert losses[round(share, 2)] <= min(losses.values()) + 0.003
    right = [(sure * s + unsure * (1 - s)).argmax(1) == truth for s in (share, 0.5)]
    assert right[0].mean() > right[1].mean() + 0.01


def test_messages_too_few_to_tell_leave_both_views_heard_alike(truth: NDArray[np.int64]) -> None:
    sure, unsure = told(truth, 12, 0.1, 4), told(truth, 2, 0.1, 5)
    for n in (0, 1, 8):
        assert mixture(sure[:n], unsure[:n], one_hot(truth[:n]), each=False) == pytest.approx(0.5)
    several = one_hot(truth) | one_hot((truth + 1) % CLASSES)
    assert mixture(sure, told(truth, 2, 50, 3), several, each=True) > 0.5


def test_the_encoder_says_the_weighted_sum_of_its_views_for_each_task_alone() -> None:
    config = LanguageConfig(width=16, ngram_slots=64)
    encoder = Encoder(config, SmallBody(config, 50), {"intent": 3, "sentiment": 2}).eval()
    torch.nn.init.normal_(encoder.ngrams.table.weight)
    encoder.ngrams.weigh(torch.ones(64), 4)
    token_id, length = torch.tensor([[1, 7, 8, 9], [1, 5, 0, 0]]), torch.tensor([[4], [2]])
    code_point = torch.tensor([[32, 97, 98, 32], [32, 99, 32, 0]], dtype=torch.int32)
    encoder.body_share[0] = 0.25
    with torch.inference_mode():
        by_body, by_ngrams = encoder.by_tokens(token_id, length), encoder.ngrams(token_id, code_point)
        said = encoder.understand(token_id, length, code_point)[1]
    assert torch.allclose(said["intent"], 0.5 * by_body["intent"] + 1.5 * by_ngrams["intent"])
    assert torch.allclose(said["sentiment"], by_body["sentiment"] + by_ngrams["sentiment"])
