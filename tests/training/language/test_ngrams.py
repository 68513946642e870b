"""N-gram ids equal a slow reference, and the view gives what TF-IDF vectors under a linear model give."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from shopsight.serving.routing.texts import Texts
from shopsight.training.language.ngrams import NgramView

PRIME, STEP, SCATTER = 2**31 - 1, 1_000_003, 1_103_515_245
TEXTS = [" where is it ", " 我的外套 ", "  ", " a ", " the same the same the same "]


def _texts(texts: list[str]) -> Texts:
    tokens = [[1, *[3 + ord(c) % 50 for c in text[::3]]] for text in texts]
    return Texts(tokens, [np.array([ord(c) for c in text], dtype=np.int32) for text in texts])


def _slots(tokens: list[int], text: str, longest: int, num_slots: int) -> list[int]:
    """The ids in Python's unbounded integers, one n-gram after the other."""

    def slot(hashed: int) -> int:
        return hashed % PRIME * SCATTER % PRIME % (num_slots - 1) + 1

    found = []
    for n in range(1, longest + 1):
        for end in range(n, len(text) + 1):
            hashed = 0
            for c in text[end - n : end]:
                hashed = (hashed * STEP + ord(c)) % PRIME
            found.append(slot(hashed + n))
    words = tokens[1:]
    found += [slot(word * STEP % PRIME + 101) for word in words]
    found += [slot((a * STEP + b) % PRIME + 211) for a, b in pairwise(words)]
    return sorted(found)


@pytest.mark.parametrize(("longest", "num_slots"), [(1, 50), (3, 2**16), (5, 2**20)])
def test_ids_are_those_of_the_slow_reference_at_any_padding(longest: int, num_slots: int) -> None:
    view, texts = NgramView(num_slots, longest, 0.0, {"intent": 3}), _texts(TEXTS)
    for chosen, width in (([0, 1, 2, 3, 4], 0), ([3], 0), ([2, 3], 64)):
        padded = texts.padded(chosen, width)
        ids = view.ids(torch.from_numpy(padded["TOKEN_ID"]), torch.from_numpy(padded["CODE_POINT"]))
        for place, row in zip(chosen, ids.tolist(), strict=True):
            expected = _slots(texts.tokens[place], TEXTS[place], longest, num_slots)
            assert sorted(i for i in row if i) == expected


def test_logits_are_a_linear_model_of_unit_vectors_of_weighted_counts() -> None:
    num_slots, texts = 997, _texts(TEXTS)
    view = NgramView(num_slots, 4, 0.5, {"intent": 3, "sentiment": 2, "none": 0}).eval()
    rng = np.random.default_rng(0)
    table, frequency = rng.normal(size=(num_slots, 5)), rng.integers(0, 4, num_slots)
    view.table.weight.data = torch.from_numpy(table).float()
    view.bias.data = torch.arange(5.0)
    view.weigh(torch.from_numpy(frequency), 9)
    idf = np.where(frequency > 0, np.log(10 / (1 + frequency)) + 1, 0.0)
    padded = texts.padded(range(len(texts)))
    with torch.no_grad():
        said = view(torch.from_numpy(padded["TOKEN_ID"]), torch.from_numpy(padded["CODE_POINT"]))
    for row, text in enumerate(TEXTS):
        slots = np.array(_slots(texts.tokens[row], text, 4, num_slots))
        weights = idf[slots]
        expected = 8 * (weights / (np.sqrt((weights**2).sum()) + 1e-6)) @ table[slots] + np.arange(5)
        np.testing.assert_allclose(said["intent"][row], expected[:3], atol=1e-4)
        np.testing.assert_allclose(said["sentiment"][row], expected[3:], atol=1e-4)
    assert set(said) == {"intent", "sentiment"}


def test_what_training_never_saw_says_nothing() -> None:
    view = NgramView(2**16, 3, 0.0, {"intent": 2}).eval()
    torch.nn.init.normal_(view.table.weight)
    view.weigh(torch.zeros(2**16, dtype=torch.int64), 5)
    padded = _texts([" new words "]).padded([0])
    said = view(torch.from_numpy(padded["TOKEN_ID"]), torch.from_numpy(padded["CODE_POINT"]))["intent"]
    torch.testing.assert_close(said, torch.zeros(1, 2))
