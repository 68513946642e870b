"""Out-of-scope detection: a confidence score for each message, and the threshold that rejects it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Values = NDArray[np.float64]


def energy(logits: Logits, temperature: float = 1.0) -> Values:
    """Return the free energy T · log Σ exp(logit / T) of logits [n, classes], float64 [n] (Liu et al. 2020).

    It is high for messages that resemble the training data.
    """
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(1)
    said: Values = temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(1)))
    return said


def confidence(logits: Logits, temperature: float) -> Values:
    """Return the calibrated softmax probability of the top class of logits [n, classes], float64 [n]."""
    top = logits.astype(np.float64).max(1)
    said: Values = np.exp((top - energy(logits, temperature)) / temperature)
    return said


def likelihood(logits: Logits, temperature: float) -> Values:
    """Return the sigmoid probability of the likeliest class of logits [n, classes], float64 [n]."""
    said: Values = 1 / (1 + np.exp(-logits.astype(np.float64).max(1) / temperature))
    return said


BY_LOGITS = {"energy": energy, "confidence": confidence, "likelihood": likelihood}
BY_SIMILARITY = {"similarity_confidence": confidence, "similarity_likelihood": likelihood}


def scored(score: str, logits: Logits, temperature: float, example_similarity: Logits | None) -> Values:
    """Return the score named `score`, float64 [n]: the higher, the more likely a message is in scope.

    The names are the keys of BY_LOGITS and BY_SIMILARITY. logits: float32 [n, classes]. example_similarity:
    float32 [n], the mean of two cosines to the nearest known message, of its words and of its embedding.
    A similarity score is the mean of those two cosines and the score of the logits.
    """
    if score in BY_LOGITS:
        return BY_LOGITS[score](logits, temperature)
    assert example_similarity is not None, score
    said: Values = (BY_SIMILARITY[score](logits, temperature) + 2 * example_similarity.astype(np.float64)) / 3
    return said


@dataclass(frozen=True)
class Abstention:
    """The rule that a message is out of scope if its score (see `scored`) is below the threshold."""

    score: str
    threshold: float
    temperature: float

    def values(self, logits: Logits, example_similarity: Logits | None = None) -> Values:
        """Return the scores, float64 [n], of intent logits [n, classes].

        example_similarity: float32 [n], None for a model without known messages.
        """
        return scored(self.score, logits, self.temperature, example_similarity)

    def accepts(self, logits: Logits, example_similarity: Logits | None = None) -> NDArray[np.bool_]:
        """Return which rows are in scope, bool [n]; the arguments are those of `values`."""
        accepted: NDArray[np.bool_] = self.values(logits, example_similarity) >= self.threshold
        return accepted

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)
