"""Splits of interactions into training and test, and figures of warm and cold customers and items apart.

The split in time is the default: what lies before one moment is known, what lies after it is predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from shopsight.training.evaluation.ranking import Bool, Float64, Int, distinct


class BadSplit(ValueError):  # noqa: N818 - reads as what happened
    """The interactions cannot be split as asked."""


@dataclass(frozen=True)
class Split:
    """train and test: bool [rows], which interactions are of each. warnings: what the split leaks."""

    train: Bool
    test: Bool
    warnings: tuple[str, ...]


def in_time(time: NDArray[Any], *, cut: Any = None, test_share: float = 0.1) -> Split:
    """Split all interactions at one moment: before `cut` is training, at or after it is test.

    time: numbers or datetime64, [rows]. Without a cut it is the moment from which `test_share` of the
    interactions come, or the next with an interaction on both sides; interactions of the same time are never
    separated. Raises BadSplit for no rows, a time that is NaN or NaT, a share that is not between 0 and 1,
    and for a side without rows.
    """
    _check_times(time)
    if cut is None:
        if not 0 < test_share < 1:
            raise BadSplit(f"test_share={test_share}: must be above 0 and below 1")
        ascending = np.sort(time)
        cut = ascending[min(len(time) - 1, int(np.ceil(len(time) * (1 - test_share))))]
        if cut == ascending[0]:
            cut = ascending[min(len(time) - 1, int(np.searchsorted(ascending, cut, side="right")))]
    test = np.asarray(time >= cut)
    if test.all() or not test.any():
        side = "training" if test.all() else "test"
        raise BadSplit(
            f"a cut at {cut} leaves the {side} side without interactions: "
            f"their times are {time.min()} to {time.max()}; "
            "choose a cut between them"
        )
    return Split(~test, test, ())


def leave_one_out(user: Int, time: NDArray[Any]) -> Split:
    """Split off the last interaction of every user who has at least two.

    user: int [rows]. time: numbers or datetime64, [rows]; with equal times the later row is the last. The
    split leaks: training holds what other users did after a test interaction, which `warnings` puts a number
    on. Source of the warning: Ji et al. (2023), "A Critical Study on Data Leakage in Recommender System
    Offline Evaluation". Raises BadSplit as `in_time`, and if no user has two interactions.
    """
    _check_times(time)
    if len(user) != len(time):
        raise BadSplit(f"user has {len(user)} rows where time has {len(time)}; give one user per interaction")
    order = np.lexsort((np.arange(len(time)), time, user))
    of_user = np.asarray(user)[order]
    last = np.append(of_user[1:] != of_user[:-1], True)
    several = np.append(False, of_user[1:] == of_user[:-1])
    test = np.zeros(len(time), dtype=bool)
    test[order[last & several]] = True
    if not test.any():
        raise BadSplit("no user has two interactions, so the test side is empty; split in time instead")
    later = float((time[~test] > time[test].min()).mean())
    warning = (
        f"leave-one-out: {later:.0%} of the training interactions are later than the first test interaction, "
        "so the figures count on knowledge of the future; compare models by a split in time"
    )
    return Split(~test, test, (warning,) if later else ())


def matrix(user: Int, item: Int, rows: Bool, shape: tuple[int, int]) -> csr_matrix:
    """Return the users and items of some interactions, CSR of ones [users, items].

    user and item: int [rows], rows: a side of a Split, shape: (users, items). Raises BadSplit for a number
    that lies outside the shape.
    """
    for name, values, limit in (("user", user, shape[0]), ("item", item, shape[1])):
        bad = np.flatnonzero((values < 0) | (values >= limit))
        if len(bad):
            raise BadSplit(
                f"{name}[{bad[0]}] = {values[bad[0]]}: must be 0 to {limit - 1}; number them from 0"
            )
    found = csr_matrix((np.ones(int(rows.sum())), (user[rows], item[rows])), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1
    return found


def apart(
    figure: Callable[[Int, csr_matrix], Float64],
    recommended: Int,
    relevant: csr_matrix,
    warm_item: Bool,
    warm_user: Bool | None = None,
) -> dict[str, Float64]:
    """Return a figure for warm and cold items, and for warm and cold customers, float64 [users] each.

    figure: a function of ranking.py. recommended: int [users, k]; relevant: CSR [users, items]. warm_item:
    bool [items], which items the training data have. warm_user: bool [users], which customers they have;
    without it the customers are not told apart. The figures of items count the relevant items of that kind
    alone. NaN marks who does not belong.
    """
    found = {
        "warm_items": figure(recommended, of_items(relevant, warm_item)),
        "cold_items": figure(recommended, of_items(relevant, ~warm_item)),
    }
    if warm_user is not None:
        values = figure(recommended, relevant)
        found["warm_customers"] = np.where(warm_user, values, np.nan)
        found["cold_customers"] = np.where(warm_user, np.nan, values)
    return found


def of_items(relevant: csr_matrix, chosen: Bool) -> csr_matrix:
    """Return the matrix with the entries of chosen items alone; chosen: bool [items]."""
    kept = csr_matrix(distinct(relevant) @ diags(chosen.astype(relevant.dtype)))
    kept.eliminate_zeros()
    return kept


def _check_times(time: NDArray[Any]) -> None:
    if not len(time):
        raise BadSplit("there are no interactions to split")
    bad = np.flatnonzero(np.isnat(time) if time.dtype.kind == "M" else ~np.isfinite(time))
    if len(bad):
        raise BadSplit(
            f"time is missing or not finite in {len(bad)} of {len(time)} rows, first in row {bad[0]}; "
            "leave these rows out or give them a time"
        )
