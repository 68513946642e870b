"""What another policy would have earned, estimated from logged recommendations with their propensities.

A log is one row per shown item: its reward, the probability with which the logging policy showed it
(propensity), and the probability with which the policy in question would show it in the same place to the
same customer (target). The estimates rest on two conditions: the propensities are right, and the logging
policy gives every item that the target policy may show a chance. `Estimate.warnings` says where the log
speaks against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float64 = NDArray[np.float64]
_FEW_EFFECTIVE = 100
_SMALL_SHARE = 0.1
_LARGE_WEIGHT = 0.1
_FAR_FROM_ONE = 4.0


class BadLog(ValueError):  # noqa: N818 - reads as what happened
    """The log does not have what the estimate needs."""


@dataclass(frozen=True)
class Estimate:
    """The mean reward per row under the target policy, with its 95 % interval.

    effective_sample_size: (Σw)² / Σw² of the weights w = target / propensity, in rows. warnings: what makes
    the interval doubtful, in words; empty if nothing does.
    """

    method: str
    value: float
    low: float
    high: float
    num_rows: int
    effective_sample_size: float
    warnings: tuple[str, ...]


def ips(reward: Any, propensity: Any, target: Any, *, group: Any = None) -> Estimate:
    """Estimate by inverse propensity scores: the mean of w·reward (Horvitz, Thompson, 1952).

    reward, propensity and target: float [rows]. group: int [rows] or None; rows of one group (a request, a
    customer) depend on each other and are one draw for the interval. Unbiased if the conditions hold. Raises
    BadLog for a log without rows, for arrays of unequal length, values that are NaN or infinite, propensities
    that are not in (0, 1], targets that are not in [0, 1], and for a single group.
    """
    log = _Log.of(reward, propensity, target, group)
    return _estimate("ips", log, log.weight * log.reward)


def snips(reward: Any, propensity: Any, target: Any, *, group: Any = None) -> Estimate:
    """Estimate by self-normalised scores: Σ w·reward / Σ w (Swaminathan, Joachims, 2015).

    Arguments and errors are those of `ips`; BadLog too if every target is 0. It has a bias of the order 1 /
    rows and usually a smaller variance; the interval is that of a ratio (delta method).
    """
    log = _Log.of(reward, propensity, target, group)
    total = log.weight.mean()
    if total == 0:
        raise BadLog(
            f"target is 0 in all {log.num_rows} rows: the policy shows nothing that was logged, so the log "
            "says nothing about it; log with a policy that explores"
        )
    value = float((log.weight * log.reward).mean() / total)
    return _estimate("snips", log, value + log.weight * (log.reward - value) / total)


def doubly_robust(
    reward: Any, propensity: Any, target: Any, *, predicted: Any, predicted_target: Any, group: Any = None
) -> Estimate:
    """Estimate by a model of the reward, corrected by the log: the mean of v + w·(reward - q).

    Source: Dudík et al. (2011). predicted: q, float [rows], the predicted reward of the shown item.
    predicted_target: v, float [rows], the mean predicted reward of the items that the target policy would
    show there. The model must not have seen the reward of the row it predicts. Right if either the
    propensities or the predictions are. Other arguments and errors are those of `ips`.
    """
    log = _Log.of(reward, propensity, target, group)
    q, v = _finite("predicted", predicted), _finite("predicted_target", predicted_target)
    _same_length(log.num_rows, predicted=q, predicted_target=v)
    return _estimate("doubly robust", log, v + log.weight * (log.reward - q))


@dataclass(frozen=True)
class _Log:
    reward: Float64
    weight: Float64
    group: NDArray[np.int64] | None
    num_rows: int

    @staticmethod
    def of(reward: Any, propensity: Any, target: Any, group: Any) -> _Log:
        r, p, t = _finite("reward", reward), _finite("propensity", propensity), _finite("target", target)
        if not len(r):
            raise BadLog("the log has no rows; give at least two logged recommendations")
        _same_length(len(r), propensity=p, target=t)
        _within("propensity", p, p > 0, "above 0 and at most 1; it is the probability that the row was shown")
        _within("target", t, t >= 0, "0 to 1; it is the probability that the policy shows the row's item")
        code: NDArray[np.int64] | None = None
        if group is not None:
            code = np.unique(np.asarray(group), return_inverse=True)[1].astype(np.int64)
            _same_length(len(r), group=code)
        if (len(r) if code is None else code.max() + 1) < 2:
            raise BadLog("the log has one row or one group; an interval needs at least two")
        return _Log(r, t / p, code, len(r))


def _estimate(method: str, log: _Log, contribution: Float64) -> Estimate:
    """Return the mean contribution of a row, with a t interval over groups."""
    value, n = float(contribution.mean()), log.num_rows
    residual = contribution - value
    if log.group is not None:
        residual = np.bincount(log.group, weights=residual).astype(np.float64)
    num_draws = len(residual)
    error = float(np.sqrt((residual**2).sum() * num_draws / (num_draws - 1))) / n
    reach = float(stats.t.ppf(0.975, num_draws - 1)) * error
    squares = float((log.weight**2).sum())
    effective = float(log.weight.sum()) ** 2 / squares if squares else 0.0
    return Estimate(method, value, value - reach, value + reach, n, effective, _warnings(log, effective))


def _warnings(log: _Log, effective: float) -> tuple[str, ...]:
    weight, n = log.weight, log.num_rows
    found = []
    if effective < max(_FEW_EFFECTIVE, _SMALL_SHARE * n):
        found.append(
            f"the effective sample size is {effective:,.0f} of {n:,} rows: few rows decide, and the interval "
            "may be too narrow; log more, or compare a policy nearer to the logging one"
        )
    if weight.max() > _LARGE_WEIGHT * weight.sum() > 0:
        row = int(weight.argmax())
        found.append(
            f"row {row} has {weight[row] / weight.sum():.0%} of all weight "
            f"(target / propensity = {weight[row]:,.4g})"
        )
    error = weight.std(ddof=1) / np.sqrt(n)
    if abs(weight.mean() - 1) > max(_FAR_FROM_ONE * error, 1e-9):
        found.append(
            f"the weights have mean {weight.mean():.3f} where 1 is expected: the policy shows items that the "
            "log never shows, or propensities are wrong; ips and doubly robust are off by what is missing"
        )
    return tuple(found)


def _finite(name: str, values: Any) -> Float64:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise BadLog(f"{name} has shape {array.shape}; give one value per row")
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise BadLog(
            f"{name} is missing or not finite in {len(bad)} of {len(array)} rows, first in row {bad[0]}; "
            "leave out logs without it as a whole (leaving out single rows makes the estimate wrong)"
        )
    return array


def _within(name: str, values: Float64, allowed: NDArray[np.bool_], rule: str) -> None:
    bad = np.flatnonzero(~(allowed & (values <= 1)))
    if len(bad):
        raise BadLog(f"{name}[{bad[0]}] = {values[bad[0]]:g} ({len(bad)} such rows): must be {rule}")


def _same_length(num_rows: int, **others: NDArray[Any]) -> None:
    for name, given in others.items():
        if len(given) != num_rows:
            raise BadLog(f"{name} has {len(given)} rows where reward has {num_rows}; give one value per row")
