"""When to say "I do not know": a score of a message's intents, and the threshold where none is meant."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Values = NDArray[np.float64]


def energy(logits: Logits, temperature: float = 1.0) -> Values:
    """Return T · log Σ exp(logit / T), float64 [n]: high for what was learned (Liu et al. 2020)."""
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(1)
    said: Values = temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(1)))
    return said


def confidence(logits: Logits, temperature: float) -> Values:
    """Return the calibrated probability of the likeliest class, float64 [n]."""
    top = logits.astype(np.float64).max(1)
    said: Values = np.exp((top - energy(logits, temperature)) / temperature)
    return said


def likelihood(logits: Logits, temperature: float) -> Values:
    """Return how likely the likeliest class is, whatever else is wanted, float64 [n]."""
    said: Values = 1 / (1 + np.exp(-logits.astype(np.float64).max(1) / temperature))
    return said


SCORES = {"energy": energy, "confidence": confidence, "likelihood": likelihood}


@dataclass(frozen=True)
class Abstention:
    """A message is handed over when its score, of SCORES, is below the threshold."""

    score: str
    threshold: float
    temperature: float

    def values(self, logits: Logits) -> Values:
        """Return the score of each row of intent logits [n, classes]: higher is more surely in scope."""
        return SCORES[self.score](logits, self.temperature)

    def accepts(self, logits: Logits) -> NDArray[np.bool_]:
        """Return which rows are answered, bool [n]."""
        accepted: NDArray[np.bool_] = self.values(logits) >= self.threshold
        return accepted

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)
