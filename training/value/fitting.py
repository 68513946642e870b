"""Maximum likelihood of a few positive parameters: restarts, standard errors, identifiability."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]
# Maps natural parameters to the log-likelihood and its gradient.
Objective = Callable[[Array], tuple[float, Array]]

_REACH = 16.0  # logarithms of the parameters are searched from -_REACH to _REACH
_STEP = 1e-4
_NEAR, _ARRIVED, _MOST_STEPS = 0.5, 1e-8, 8
_KNOWN_WITHIN = 2.0  # with a larger standard error of its logarithm a parameter is not identified


class IdentifiabilityWarning(UserWarning):
    """The data do not identify some parameters; forecasts hold only for customers like those seen."""


@dataclass(frozen=True)
class Estimate:
    """Parameters at the maximum of the likelihood.

    standard_errors: from the observed information; None for a parameter that is not identified. doubts:
    sentences on the parameters that the data do not identify; empty if they identify all.
    """

    parameters: dict[str, float]
    standard_errors: dict[str, float | None]
    log_likelihood: float
    num_customers: int
    doubts: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready data."""
        return asdict(self) | {"doubts": list(self.doubts)}


def maximise(
    names: Sequence[str],
    objective: Objective,
    starts: Sequence[Sequence[float]],
    *,
    num_customers: int,
    lower: Sequence[float] | None = None,
    rough: Objective | None = None,
) -> Estimate:
    """Return the best of several searches by L-BFGS over the logarithms of `parameter - lower`.

    objective: total log-likelihood and gradient at natural parameters. rough: a cheaper approximation, used
    to choose the starting point. Warns with IdentifiabilityWarning, naming the parameters, if the maximum
    lies at the edge of the search range or the likelihood is flat there.
    """
    floor = np.zeros(len(names)) if lower is None else np.asarray(lower, dtype=np.float64)
    exact, coarse = (_Loss(o, floor, max(num_customers, 1)) for o in (objective, rough or objective))
    found = [_search(coarse, np.log(np.asarray(start) - floor)) for start in starts]
    logs, _ = min(found, key=lambda one: one[1])
    logs = _polished(exact, logs)
    errors = _standard_errors(_information(exact, logs), num_customers)
    untold = (np.abs(logs) > _REACH - 1) | ~(errors < _KNOWN_WITHIN)
    doubts = _doubts([name for name, unsure in zip(names, untold, strict=True) if unsure])
    for doubt in doubts:
        warnings.warn(doubt, IdentifiabilityWarning, stacklevel=3)
    values, widths = floor + np.exp(logs), np.where(untold, np.nan, errors * np.exp(logs))
    return Estimate(
        parameters={name: float(value) for name, value in zip(names, values, strict=True)},
        standard_errors={n: float(w) if np.isfinite(w) else None for n, w in zip(names, widths, strict=True)},
        log_likelihood=float(objective(values)[0]),
        num_customers=num_customers,
        doubts=doubts,
    )


@dataclass(frozen=True)
class _Loss:
    """The negative mean log-likelihood as a function of logarithms, with its gradient."""

    objective: Objective
    floor: Array
    num_customers: int

    def __call__(self, logs: Array) -> tuple[float, Array]:
        value, gradient = self.objective(self.floor + np.exp(logs))
        return -value / self.num_customers, -gradient * np.exp(logs) / self.num_customers


def _search(loss: _Loss, start: Array) -> tuple[Array, float]:
    # With a few parameters, BLAS threads would only wait for each other.
    with threadpool_limits(1):
        done = minimize(
            loss,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_REACH, _REACH)] * len(start),
            options={"maxiter": 200, "ftol": 1e-10, "gtol": 1e-7},
        )
    return np.asarray(done.x, dtype=np.float64), float(done.fun)


def _polished(loss: _Loss, logs: Array) -> Array:
    """Return the maximum near `logs`, found by Newton steps with the information at the starting point."""
    near, information = logs, _information(loss, logs)
    for _ in range(_MOST_STEPS):
        step = -np.linalg.lstsq(information, loss(near)[1], rcond=None)[0]
        if not np.abs(step).max() < _NEAR:
            return _search(loss, logs)[0]
        near = near + step
        if np.abs(step).max() < _ARRIVED:
            return near
    return _search(loss, near)[0]


def _information(loss: _Loss, logs: Array) -> Array:
    """Return the Hessian of the loss, from central differences of the gradient."""
    steps = _STEP * np.eye(len(logs))
    rows = np.array([(loss(logs + step)[1] - loss(logs - step)[1]) / (2 * _STEP) for step in steps])
    return np.asarray((rows + rows.T) / 2, dtype=np.float64)


def _standard_errors(information: Array, num_customers: int) -> Array:
    """Return standard errors of the logarithms; NaN along directions in which the likelihood is flat."""
    eigenvalues, vectors = np.linalg.eigh(information * num_customers)
    flat = eigenvalues <= 1e-9 * max(float(eigenvalues[-1]), 1.0)
    errors = np.sqrt((vectors[:, ~flat] ** 2 / eigenvalues[~flat]).sum(axis=1))
    untold = (np.abs(vectors[:, flat]) > 0.1).any(axis=1)
    return np.where(untold, np.nan, errors)


def _doubts(unsure: Sequence[str]) -> tuple[str, ...]:
    if not unsure:
        return ()
    return (
        f"{', '.join(unsure)} cannot be estimated from these customers: the likelihood is nearly flat there. "
        "More customers who bought again, or a longer period, are needed",
    )
