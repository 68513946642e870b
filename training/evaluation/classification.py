"""Evaluation of probabilities of a yes-or-no outcome."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def auc(probability: NDArray[np.float64], happened: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve (Hanley and McNeil, 1982); None where one class is absent.

    probability float64 [n], happened bool [n]. The area is the share of pairs of a positive and a negative
    entry in which the positive one has the higher probability; equal probabilities count half.
    """
    num_yes, num_no = int(happened.sum()), int((~happened).sum())
    if not num_yes or not num_no:
        return None
    ranks = rankdata(probability)
    return float((ranks[happened].sum() - num_yes * (num_yes + 1) / 2) / (num_yes * num_no))
