"""A/B tests: did the arms get the customers they should, and how much did the treatment change?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from scipy import stats

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.tables import scan_table
from shopsight.training.evaluation.proportions import wilson

CONTROL = "control"
_Z = 1.959963984540054  # 95 %
_MISMATCH = 0.001  # below this chance of arms so unequal, the assignment is taken to be broken


class ExperimentError(ValueError):
    """An experiment cannot be analysed; the message says what is missing."""


@dataclass(frozen=True)
class Arm:
    """One arm: customers exposed, how many of them converted, and the rate with its 95 % Wilson interval."""

    name: str
    num_exposed: int
    num_converted: int
    conversion: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """An arm against the control.

    effect: difference of the conversion rates with its 95 % interval (Newcombe, 1998, hybrid score); lift:
    the difference as a share of the control's rate, None where that is 0; p_value: two-sided, of no
    difference (pooled z test).
    """

    arm: str
    control: str
    effect: float
    low: float
    high: float
    lift: float | None
    p_value: float


@dataclass(frozen=True)
class Experiment:
    """The analysis of one experiment.

    effect, low, high: of the first comparison. sample_ratio_p: the chance that an assignment as planned
    gives arms as unequal as these (chi-square); sample_ratio_ok false means that the assignment is broken and
    the effect tells nothing. num_crossed: customers seen in more than one arm, left out. num_anonymous:
    exposures without a customer, left out.
    """

    name: str
    metric: str
    effect: float
    low: float
    high: float
    sample_ratio_ok: bool
    sample_ratio_p: float
    arms: tuple[Arm, ...]
    comparisons: tuple[Comparison, ...]
    num_crossed: int
    num_anonymous: int
    first_exposure: datetime
    last_exposure: datetime


def analyse(
    workspace: Workspace,
    name: str | None = None,
    *,
    event: str = "purchase",
    channel: str | None = None,
    window_days: float | None = None,
    planned: Mapping[str, float] | None = None,
) -> Experiment:
    """Analyse an experiment of the exposures table; without `name` the only one there is.

    A customer belongs to the arm of their exposures and has converted with an `event` (in `channel`, where
    one is named) at or after the first exposure, within `window_days` of it where given. Customers count
    once, whatever they saw, because the assignment is theirs. Lines that are no goods convert nobody.
    `planned` has the arms' planned shares; equal ones are assumed. The control is the arm "control", else the
    first by name. Raises ExperimentError.
    """
    exposures = scan_table(workspace.tables, "exposures")
    chosen = _named(exposures, name)
    shown = exposures.filter(pl.col("experiment") == chosen).collect()
    by_customer = _by_customer(shown)
    single = by_customer.filter(pl.col("num_arms") == 1)
    events = of_goods(scan_table(workspace.tables, "events"), scan_table(workspace.tables, "items"))
    converted = _converted(events, single, event, channel, window_days)
    counts = _counts(single.with_columns(converted=pl.col("customer_id").is_in(converted.to_list())))
    if len(counts) < 2:
        raise ExperimentError(
            f"experiment '{chosen}' has customers in {len(counts)} arm(s); a comparison needs two"
        )
    control = CONTROL if CONTROL in counts else min(counts)
    comparisons = tuple(
        compare(arm, counts[arm], control, counts[control]) for arm in counts if arm != control
    )
    p_value = sample_ratio_p({arm: total for arm, (_, total) in counts.items()}, planned)
    where = f" in channel {channel}" if channel else ""
    within = f" within {window_days:g} days of" if window_days else " at or after"
    return Experiment(
        name=chosen,
        metric=f"share of exposed customers with a {event}{where}{within} their first exposure",
        effect=comparisons[0].effect,
        low=comparisons[0].low,
        high=comparisons[0].high,
        sample_ratio_ok=p_value >= _MISMATCH,
        sample_ratio_p=p_value,
        arms=tuple(
            Arm(arm, total, hits, hits / total, *wilson(hits, total)) for arm, (hits, total) in counts.items()
        ),
        comparisons=comparisons,
        num_crossed=by_customer.height - single.height,
        num_anonymous=shown["customer_id"].null_count(),
        first_exposure=shown["timestamp"].min(),  # type: ignore[arg-type]
        last_exposure=shown["timestamp"].max(),  # type: ignore[arg-type]
    )


def compare(arm: str, found: tuple[int, int], control: str, base: tuple[int, int]) -> Comparison:
    """Compare conversions (converted, exposed) of an arm with the control's."""
    (hits, total), (base_hits, base_total) = found, base
    rate, base_rate = hits / total, base_hits / base_total
    low, high = wilson(hits, total)
    base_low, base_high = wilson(base_hits, base_total)
    effect = rate - base_rate
    pooled = (hits + base_hits) / (total + base_total)
    deviation = np.sqrt(pooled * (1 - pooled) * (1 / total + 1 / base_total))
    return Comparison(
        arm=arm,
        control=control,
        effect=effect,
        low=effect - float(np.hypot(rate - low, base_high - base_rate)),
        high=effect + float(np.hypot(high - rate, base_rate - base_low)),
        lift=effect / base_rate if base_rate else None,
        p_value=float(2 * stats.norm.sf(abs(effect) / deviation)) if deviation else 1.0,
    )


def sample_ratio_p(num_exposed: Mapping[str, int], planned: Mapping[str, float] | None = None) -> float:
    """Return the chance of arms at least as unequal as these under the planned shares (Fabijan et al., 2019).

    Raises ExperimentError when `planned` names other arms than there are.
    """
    if planned is not None and planned.keys() != num_exposed.keys():
        raise ExperimentError(
            f"planned shares are for {', '.join(sorted(planned))}; arms are {', '.join(sorted(num_exposed))}"
        )
    shares = np.array([1.0 if planned is None else planned[arm] for arm in num_exposed])
    observed = np.array(list(num_exposed.values()))
    return float(stats.chisquare(observed, shares / shares.sum() * observed.sum()).pvalue)


def _named(exposures: pl.LazyFrame, name: str | None) -> str:
    names = exposures.select(pl.col("experiment").drop_nulls().unique().sort()).collect()["experiment"]
    if not len(names):
        raise ExperimentError("the exposures table names no experiment; ingest a source of exposures")
    if name is None and len(names) == 1:
        return str(names[0])
    if name is None or name not in names:
        asked = "more than one experiment" if name is None else f"no experiment '{name}'"
        raise ExperimentError(f"{asked}; there are: {', '.join(names)}")
    return name


def _by_customer(shown: pl.DataFrame) -> pl.DataFrame:
    known = shown.filter(pl.col("customer_id").is_not_null(), pl.col("arm").is_not_null())
    return known.group_by("customer_id").agg(
        pl.col("arm").first(), num_arms=pl.col("arm").n_unique(), first=pl.col("timestamp").min()
    )


def _converted(
    events: pl.LazyFrame,
    exposed: pl.DataFrame,
    event: str,
    channel: str | None,
    window_days: float | None,
) -> pl.Series:
    done = events.filter(pl.col("event") == event).join(exposed.lazy(), on="customer_id")
    done = done.filter(pl.col("timestamp") >= pl.col("first"))
    if channel is not None:
        done = done.filter(pl.col("channel") == channel)
    if window_days is not None:
        done = done.filter(pl.col("timestamp") < pl.col("first") + timedelta(days=window_days))
    return done.select(pl.col("customer_id").unique()).collect()["customer_id"]


def _counts(customers: pl.DataFrame) -> dict[str, tuple[int, int]]:
    rows = customers.group_by("arm").agg(pl.col("converted").sum(), total=pl.len()).sort("arm")
    return {arm: (int(hits), int(total)) for arm, hits, total in rows.iter_rows()}
