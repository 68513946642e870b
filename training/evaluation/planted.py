"""The table "planted against found": how much of the synthetic shop's truth was recovered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.table import Table

from shopsight.training.data.identity.linkage.quality import pairwise_quality


@dataclass(frozen=True)
class Row:
    """One line of the table: what was planted or required, what was found, and whether that is enough.

    needs_size: the requirement is for a shop of 20,000 customers, and a small one may miss it. judged:
    whether a missed requirement counts.
    """

    name: str
    planted: str
    found: str
    passed: bool
    needs_size: bool = False
    judged: bool = True


def table(rows: Sequence[Row]) -> Table:
    """Return the rows as a rich table."""
    shown = Table(title="planted against found")
    for column in ("what", "planted or asked", "found", "reached"):
        shown.add_column(column, overflow="fold")
    for row in rows:
        missed = "[red]no[/red]" if row.judged else "no, the shop is small"
        shown.add_row(row.name, row.planted, row.found, "[green]yes[/green]" if row.passed else missed)
    return shown


def as_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON-ready records."""
    return [asdict(row) for row in rows]


def recall_at_k(recommended: Sequence[Sequence[str]], bought: Sequence[set[str]], k: int) -> float:
    """Return the mean over customers of |first k recommended ∩ bought| / min(k, |bought|)."""
    shares = [
        len(set(items[:k]) & wanted) / min(k, len(wanted))
        for items, wanted in zip(recommended, bought, strict=True)
    ]
    return float(np.mean(shares))


def identity_row(truth: pl.DataFrame, identities: pl.DataFrame) -> Row:
    """Score the record linkage by pairwise precision and recall.

    Both frames have `source, source_id` (keyed hash); truth adds `person_id` and identities `customer_id`.
    Records that ingest never read count as customers of their own, so that their pairs are missed.
    """
    joined = truth.join(
        identities.filter(pl.col("valid_to").is_null()).select("source", "source_id", "customer_id"),
        on=["source", "source_id"],
        how="left",
    ).with_row_index("row")
    alone = pl.concat_str(pl.lit("absent-"), pl.col("row").cast(pl.String))
    joined = joined.with_columns(pl.coalesce("customer_id", alone))
    quality = pairwise_quality(_codes(joined["customer_id"]), _codes(joined["person_id"]))
    return Row(
        name="customers joined across channels",
        planted=f"{truth['person_id'].n_unique():,} people in {truth.height:,} accounts; "
        "precision ≥ .98, recall ≥ .95",
        found=f"precision {quality.precision:.4f}, recall {quality.recall:.4f}, "
        f"{joined['customer_id'].n_unique():,} customers",
        passed=quality.precision >= 0.98 and quality.recall >= 0.95,
    )


def segments_row(personas: pl.DataFrame, segments: pl.DataFrame) -> Row:
    """Score segments against personas by the adjusted Rand index (Hubert and Arabie, 1985).

    personas has `customer_id, persona`, segments has `customer_id, segment`.
    """
    from sklearn.metrics import adjusted_rand_score

    joined = personas.join(segments, on="customer_id", how="inner")
    score = float(adjusted_rand_score(_codes(joined["persona"]), _codes(joined["segment"])))
    return Row(
        name="segments against personas",
        planted=f"{joined['persona'].n_unique()} personas that overlap; adjusted Rand index ≥ .6",
        found=f"{joined['segment'].n_unique()} segments, adjusted Rand index {score:.3f} "
        f"on {joined.height:,} customers",
        passed=score >= 0.6,
        needs_size=True,
    )


def recommendations_row(found: float, popularity: float, best: float, num_customers: int) -> Row:
    """Score recall@10 on the purchases after the end of the raw data."""
    return Row(
        name="recommendations, recall@10 of later purchases",
        planted=f"≥ 2 × popularity ({popularity:.4f}); best achievable {best:.4f}",
        found=f"{found:.4f} = {found / max(popularity, 1e-9):.2f} × popularity, "
        f"{found / max(best, 1e-9):.0%} of the best, {num_customers:,} customers",
        passed=found >= 2 * popularity > 0,
        needs_size=True,
    )


def churn_row(churn: NDArray[np.float64], bought: NDArray[np.bool_]) -> Row:
    """Score the forecast of churn, float64 [n], against purchases after the end of the raw data, bool [n].

    churn is NaN where it was withheld. Then, and if all or none of the customers came back, the row fails
    with the reason.
    """
    from shopsight.training.evaluation.classification import auc

    withheld = bool(np.isnan(churn).any())
    score = None if withheld else auc(churn, ~bought)
    undefined = "churn is withheld" if withheld else "no AUC: all or none of them came back"
    return Row(
        name="churn against later purchases",
        planted=f"{bought.sum():,} of {len(bought):,} buyers came back; AUC ≥ .65",
        found=undefined if score is None else f"AUC {score:.3f}",
        passed=score is not None and score >= 0.65,
        needs_size=True,
    )


def labels_row(name: str, planted: Sequence[str], found: Sequence[str], required: float) -> Row:
    """Score the labels predicted for unlabelled messages."""
    accuracy = float(np.mean(np.asarray(planted, dtype=object) == np.asarray(found, dtype=object)))
    return Row(
        name=name,
        planted=f"{len(set(planted))} kinds, {len(planted):,} unlabelled messages; accuracy ≥ {required}",
        found=f"accuracy {accuracy:.4f}",
        passed=accuracy >= required,
        needs_size=True,
    )


def bad_rows_row(planted: pl.DataFrame, refused: pl.DataFrame) -> Row:
    """Score which rows were quarantined; both frames have `file, row, reason`."""
    keys = ["file", "row"]
    missed = planted.join(refused, on=keys, how="anti")
    wrongly = refused.join(planted, on=keys, how="anti")
    same = planted.join(refused.unique(keys), on=keys, how="inner", suffix="_given")
    reasons = same.filter(pl.col("reason") == pl.col("reason_given")).height / max(same.height, 1)
    return Row(
        name="bad rows set aside",
        planted=f"{planted.height:,} rows, {planted['reason'].n_unique()} reasons; all found, no good one",
        found=f"{planted.height - missed.height:,} found, {wrongly.height:,} good ones refused, "
        f"the planted reason named for {reasons:.1%}",
        passed=missed.is_empty() and wrongly.is_empty(),
    )


def experiment_row(planted: float, found: float, low: float, high: float) -> Row:
    """Score the effect of the A/B test: the interval must contain the planted effect."""
    return Row(
        name="effect of the A/B test",
        planted=f"{planted:+.4f} conversion",
        found=f"{found:+.4f}, 95% interval {low:+.4f} to {high:+.4f}",
        passed=low <= planted <= high,
    )


def funnel_row(channel: str, step: str, day: date, changes: pl.DataFrame) -> Row:
    """Score the funnel's changes: that of the planted channel and step must lie within a week of the day.

    changes: channel, step, since (Mondays), before and after (shares), as in training/behaviour/changes.py.
    """
    own = changes.filter(channel=channel, step=step).to_dicts()
    monday = day - timedelta(days=day.weekday())
    told = [f"from {row['before']:.1%} to {row['after']:.1%} since the week of {row['since']}" for row in own]
    return Row(
        name="since when a step of the funnel changed",
        planted=f"{step} in channel {channel} since {day}",
        found=told[0] if told else "no change of that step",
        passed=bool(own) and abs((own[0]["since"] - monday).days) <= 7,
        needs_size=True,
    )


def _codes(values: pl.Series) -> NDArray[np.int64]:
    return values.cast(pl.String).rank("dense").cast(pl.Int64).to_numpy()
