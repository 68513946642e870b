"""Metrics of a classifier with confidence intervals, in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopsight.serving.routing.scope import energy
from shopsight.training.evaluation.classification import auc
from shopsight.training.evaluation.proportions import wilson

Labels = NDArray[np.int64]
Values = NDArray[np.float64]


def accuracy(label: Labels, said: Labels) -> dict[str, float]:
    """Return the accuracy with its 95 % interval (Wilson 1927) and the number of examples.

    label, said: true and predicted classes, int64 [n].
    """
    n = len(label)
    if n == 0:
        return {"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0}
    right = int((label == said).sum())
    low, high = wilson(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}


def macro_f1(label: Labels, said: Labels) -> float:
    """Return the mean F1 over the classes that occur in `label`; nan without examples."""
    scores = []
    for c in np.unique(label):
        hit = float(((label == c) & (said == c)).sum())
        scores.append(2 * hit / float((label == c).sum() + (said == c).sum()))
    return float(np.mean(scores)) if scores else float("nan")


def micro_f1(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    """Return F1 over pairs of message and class; nan if no pair is true or predicted.

    truth, said: true and predicted classes, bool [n, classes].
    """
    total = int(truth.sum() + said.sum())
    return 2 * float((truth & said).sum()) / total if total else float("nan")


def r_precision(truth: NDArray[np.bool_], score: NDArray[np.float32]) -> float:
    """Return the mean R-precision: the share of a row's r true classes among its r highest scores.

    truth: bool [n, classes], at least one true per row. score: float32 [n, classes]. For one class per row
    it is the accuracy.
    """
    place = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1)
    number = truth.sum(1)
    return float(((truth & (place < number[:, None])).sum(1) / number).mean())


def calibration_error(right: NDArray[np.bool_], confidence: Values, bins: int = 15) -> float:
    """Return the expected calibration error: mean |accuracy - confidence| over equal-width bins.

    right bool [n], confidence float64 [n] in 0…1 (Guo et al. 2017).
    """
    if len(right) == 0:
        return float("nan")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def confused_pairs(
    label: Labels, said: Labels, names: tuple[str, ...], top: int = 10
) -> list[dict[str, Any]]:
    """Return the most frequent confusions as {label, said, count}, most frequent first."""
    wrong = np.flatnonzero(label != said)
    pairs, counts = np.unique(np.stack([label[wrong], said[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:top]
    return [{"label": names[pairs[0, i]], "said": names[pairs[1, i]], "count": int(counts[i])} for i in order]


def area_under_roc(inside: Values, outside: Values) -> float:
    """Return the probability that a score of `inside` exceeds one of `outside`; ties count half."""
    is_inside = np.arange(len(inside) + len(outside)) < len(inside)
    area = auc(np.concatenate([inside, outside]), is_inside)
    return float("nan") if area is None else area


def temperature(
    logits: NDArray[np.float32], truth: Labels | NDArray[np.bool_], *, each: bool = False, least: float = 0.25
) -> float:
    """Return the temperature of the lowest negative log-likelihood, from `least` to 20 (Guo et al. 2017).

    truth and each as in `nll`. Golden-section search on log T, in which the loss has one minimum; 1.0
    without examples.
    """
    if len(truth) == 0:
        return 1.0
    low, high = np.log(least), np.log(20.0)  # unbounded, a few messages that are all right would give 0
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        at_left, at_right = (nll(logits, truth, float(np.exp(x)), each=each) for x in (left, right))
        low, high = (low, right) if at_left < at_right else (left, high)
    return float(np.exp((low + high) / 2))


def nll(
    logits: NDArray[np.float32],
    truth: Labels | NDArray[np.bool_],
    temperature: float,
    *,
    each: bool = False,
) -> float:
    """Return the mean negative log-likelihood of the truth at a temperature, in nats per row.

    truth: the class of each row, int64 [n], or its classes, bool [n, classes], with equal shares. With `each`
    the classes are independent (binary cross-entropy).
    """
    classes = truth == 1 if truth.ndim == 2 else np.arange(logits.shape[1]) == truth[:, None]
    if each:
        scaled = logits.astype(np.float64) / temperature
        return float((np.logaddexp(0.0, scaled) - scaled * classes).mean())
    true = (logits * classes).sum(1, dtype=np.float64) / classes.sum(1)
    return float((energy(logits, temperature) - true).mean() / temperature)
