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


BY_LOGITS = {"energy": energy, "confidence": confidence, "likelihood": likelihood}
FAMILIAR = {"familiar_confidence": confidence, "familiar_likelihood": likelihood}


def scored(score: str, logits: Logits, temperature: float, familiarity: Logits | None) -> Values:
    """Return a score by its name, of BY_LOGITS or FAMILIAR, float64 [n]: higher is more surely in scope.

    familiarity, float32 [n]: how near the nearest known message is, the mean of the cosines of its words and
    of its meaning. A familiar score is the mean of three: those two and what the logits say.
    """
    if score in BY_LOGITS:
        return BY_LOGITS[score](logits, temperature)
    assert familiarity is not None, score
    said: Values = (FAMILIAR[score](logits, temperature) + 2 * familiarity.astype(np.float64)) / 3
    return said


@dataclass(frozen=True)
class Abstention:
    """A message is handed over when its score, of `scored`, is below the threshold."""

    score: str
    threshold: float
    temperature: float

    def values(self, logits: Logits, familiarity: Logits | None = None) -> Values:
        """Return the score of n rows: intent logits [n, classes], familiarity [n] where the model tells."""
        return scored(self.score, logits, self.temperature, familiarity)

    def accepts(self, logits: Logits, familiarity: Logits | None = None) -> NDArray[np.bool_]:
        """Return which rows are answered, bool [n]."""
        accepted: NDArray[np.bool_] = self.values(logits, familiarity) >= self.threshold
        return accepted

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return asdict(self)
