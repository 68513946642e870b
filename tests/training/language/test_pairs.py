"""Duplicates: what asks the same is found, whichever message comes first, however it is padded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shopsight.serving.routing.texts import read_texts
from shopsight.training.language.checkpoint import as_tensors
from shopsight.training.language.metrics import area_under_roc, calibration_error
from shopsight.training.language.pairs import PairModel, Pairs, fit_pairs
from tests.training.language_shop import SMALL, messages


def drawn(num: int, seed: int) -> Pairs:
    """Pairs of messages, half of them of one intent, which are those that ask the same."""
    rows = messages(4 * num, seed)
    rng = np.random.default_rng(seed)
    first, second, same = [], [], []
    for i in range(num):
        _, text, intent, _ = rows[i]
        wanted = bool(rng.integers(2))
        other = next(r for r in rows[num + int(rng.integers(num)) :] if (r[2] == intent) == wanted)
        first.append(text)
        second.append(other[1])
        same.append(wanted)
    return Pairs(first, second, np.array(same))


@pytest.fixture(scope="module")
def model() -> PairModel:
    config = replace(SMALL, epochs=12, learning_rate=5e-3, embedding_dropout=0.1)
    return fit_pairs(drawn(1200, 1), drawn(200, 2), config, lambda _: None)


def test_unseen_pairs_are_told_apart_and_probabilities_are_meant(model: PairModel) -> None:
    unseen = drawn(400, 3)
    likely = model.probability(unseen.first, unseen.second)
    assert area_under_roc(likely[unseen.same], likely[~unseen.same]) > 0.97
    right = (likely > 0.5) == unseen.same
    assert calibration_error(right, np.maximum(likely, 1 - likely)) < 0.1


def test_the_order_of_a_pair_says_nothing(model: PairModel) -> None:
    unseen = drawn(60, 4)
    one, other = model.logits(unseen.first, unseen.second), model.logits(unseen.second, unseen.first)
    assert one == pytest.approx(other, abs=1e-4)


def test_what_stands_beside_a_pair_says_nothing(model: PairModel) -> None:
    unseen = drawn(60, 5)
    long = ["我的外套到哪里了 " * 6, *unseen.first]
    together = model.logits(long, [*unseen.second[:1], *unseen.second])[1:]
    alone = [float(model.logits([a], [b])[0]) for a, b in zip(unseen.first, unseen.second, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)


def test_ngrams_add_what_a_slow_sum_over_both_messages_adds(model: PairModel) -> None:
    pair = ["where is my lamp", "track the lamp please"]
    texts = read_texts(model.tokenizer, pair, model.max_tokens)
    own, other = (as_tensors(texts.padded([i])) for i in (0, 1))
    with torch.inference_mode():
        said, overlap = model.encoder._by_ngrams(own, other)
    ngrams = model.encoder.ngrams
    rarity, table = ngrams.rarity.double().numpy(), ngrams.table.weight.detach().double().numpy()
    ids = [ngrams.ids(i[0], i[2])[0].tolist() for i in (own, other)]
    slow, shared, total = 0.0, 0.0, 0.0
    for mine, theirs in ((ids[0], set(ids[1])), (ids[1], set(ids[0]))):
        norm = sum(rarity[g] ** 2 for g in mine)
        slow += sum(table[g, 0 if g in theirs else 1] * rarity[g] for g in mine) / np.sqrt(norm)
        shared += sum(rarity[g] ** 2 for g in mine if g in theirs)
        total += norm
    assert float(said) == pytest.approx(slow, abs=1e-4)
    assert float(overlap) == pytest.approx(shared / total, abs=1e-5)


def test_equal_seeds_give_equal_models() -> None:
    config = replace(SMALL, epochs=1)
    one, other = (fit_pairs(drawn(100, 1), drawn(60, 2), config, lambda _: None) for _ in range(2))
    unseen = drawn(30, 3)
    assert np.array_equal(one.logits(unseen.first, unseen.second), other.logits(unseen.first, unseen.second))
