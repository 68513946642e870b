"""How good forecasts of purchases, spending and churn are on public sets, with peers beside them.

    python -m benchmarks.quality_value --data ../shared/data --out value_quality.json

cdnow (2,357 customers): learned on weeks 1 to 39, held against weeks 40 to 78, by week, by frequency and by
customer. Both sets also in the backtest of training/value/holdout.py, three windows of a horizon that learn,
decide and are judged: Brier score, spending, and what would be told (training/value/trust.py). Peers of churn
are the base rate, the probability of having stopped, a logistic regression and gradient boosting on the
history's numbers, both trained on the window before the one judged on. Every row names its protocol and seed;
the SHA-256 of the data stand beside. `--before` keeps the figures of an earlier commit beside.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.ingest import ingest
from shopsight.training.data.period import end_of_data
from shopsight.training.data.public.adapters import adapt
from shopsight.training.data.tables import scan_table
from shopsight.training.evaluation.classification import auc
from shopsight.training.value import bgnbd, gamma_gamma
from shopsight.training.value.bgnbd import BGNBD
from shopsight.training.value.config import ValueConfig
from shopsight.training.value.forecast import forecast
from shopsight.training.value.gamma_gamma import GammaGamma
from shopsight.training.value.holdout import HoldoutForecast, backtest
from shopsight.training.value.purchases import Histories, histories
from shopsight.training.value.trust import decide

Array = np.ndarray[Any, Any]
_FIRST, _CUT, _WEEKS = date(1997, 1, 1), date(1997, 9, 30), 39
_HORIZONS = (60, 90)


def cdnow(data: Path) -> dict[str, Any]:
    """Weeks 40 to 78 of cdnow as forecast from its first 39."""
    table = pl.read_csv(data / "cdnow" / "cdnow_customers_summary.csv.gz")
    frequency, recency, T = (table[name].to_numpy() for name in ("frequency", "recency", "T"))
    model, estimate = bgnbd.fit(frequency, recency, T)
    days = _cdnow_days(data)
    after = days.filter(pl.col("day") > _CUT).group_by("customer").agg(
        pl.len().alias("num"), pl.col("spend").mean().alias("mean")
    )  # fmt: skip
    actual = table.join(after, left_on="ID", right_on="customer", how="left", maintain_order="left")
    num = actual["num"].fill_null(0).to_numpy()
    expected = _expected(model, frequency, recency, T)
    said = {
        "bgnbd": expected,
        "same rate as before": frequency / T * _WEEKS,
        "one rate for everybody": np.full(len(T), frequency.sum() / T.sum() * _WEEKS),
    }
    return {
        "buying": estimate.as_dict(),
        "purchases": {"happened": int(num.sum()), "expected": float(expected.sum())},
        "errors": {name: _errors(values, num) for name, values in said.items()},
        "by_frequency": _by_frequency(frequency, expected, num),
        "by_week": _by_week(model, table, days),
        "spending": _spending(days, actual),
    }


def online_retail(data: Path) -> list[dict[str, Any]]:
    """Churn and value on the last days of online_retail, at each horizon."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = adapt("online_retail", data / "online_retail", folder / "raw")
        workspace = Workspace(folder / "w")
        ingest(sources, workspace, PseudonymKey("quality", b"q" * 32))
        events = scan_table(workspace.tables, "events")
        known = histories(events, end_of_data(workspace))
        return [_judged(events, known, ValueConfig(horizon_days=days)) for days in _HORIZONS]


def cdnow_in_windows(data: Path) -> list[dict[str, Any]]:
    """Churn and value on the last days of cdnow, at each horizon; a day's purchases are one event."""
    days = _cdnow_days(data).filter(pl.col("spend") > 0)
    events = days.lazy().select(
        customer_id=pl.col("customer").cast(pl.String),
        timestamp=pl.col("day").cast(pl.Datetime("us", "UTC")),
        event=pl.lit("purchase"),
        item_id=pl.lit("cd"),
        order_id=pl.lit(None, dtype=pl.String),
        currency=pl.lit("USD"),
        price=pl.col("spend"),
        quantity=pl.lit(1.0),
        discount=pl.lit(None, dtype=pl.Float64),
    )
    known = histories(events, datetime(1998, 7, 1, tzinfo=UTC))
    return [_judged(events, known, ValueConfig(horizon_days=days)) for days in _HORIZONS]


def _judged(events: pl.LazyFrame, known: Histories, config: ValueConfig) -> dict[str, Any]:
    tested = backtest(events, known, config)
    if tested is None:
        raise ValueError("the set is too short for a backtest")
    earlier, last = tested.earlier, tested.last
    peers = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)),
        "gradient boosting": HistGradientBoostingClassifier(max_leaf_nodes=8, learning_rate=0.05),
    }
    trusts = decide(known, True, tested, config.horizon_days)
    found = tested.figures | {
        "seed": config.seed,
        "calibration": tested.calibrated,
        "level_of_money": last.level,
        "told": trusts.as_dict(),
    }
    for name, peer in peers.items():
        peer.fit(_numbers(earlier), earlier.churned)
        said = peer.predict_proba(_numbers(last))[:, 1]
        brier = float(((said - last.churned) ** 2).mean())
        found[f"peer: {name}"] = {"brier": brier, "auc": auc(said, last.churned)}
    return found


def _numbers(told: HoldoutForecast) -> Array:
    frequency, recency, T = (told.column(name) for name in ("frequency", "recency", "T"))
    mean = np.nan_to_num(told.column("monetary_value"))
    gap = np.where(frequency > 0, recency / np.maximum(frequency, 1), T)
    return np.stack([np.log1p(v) for v in (frequency, T - recency, T, gap, mean)], axis=1)


def _cdnow_days(data: Path) -> pl.DataFrame:
    with gzip.open(data / "cdnow" / "CDNOW_sample.txt.gz", "rt", encoding="ascii") as stream:
        rows = [line.split() for line in stream]
    frame = pl.DataFrame({"customer": [int(r[1]) for r in rows], "day": [r[2] for r in rows],
                          "spend": [float(r[4]) for r in rows]})  # fmt: skip
    frame = frame.with_columns(pl.col("day").str.to_date("%Y%m%d"))
    return frame.group_by("customer", "day").agg(pl.col("spend").sum()).sort("customer", "day")


def _spending(days: pl.DataFrame, actual: pl.DataFrame) -> dict[str, Any]:
    """Mean spending of weeks 40 to 78, forecast from repeat purchases (as published) and from all."""
    spend = pl.col("spend")
    before = days.filter(pl.col("day") <= _CUT).group_by("customer", maintain_order=True).agg(
        num=pl.len(), mean=spend.mean(), later=spend.slice(1).mean()
    )  # fmt: skip
    known = actual.select("ID", wanted="mean").join(before, left_on="ID", right_on="customer")
    wanted = known["wanted"].fill_null(float("nan")).to_numpy()
    shown = np.isfinite(wanted)
    found = {}
    for name, num, mean in (
        ("repeat purchases", known["num"] - 1, known["later"].fill_null(0)),
        ("all purchases", known["num"], known["mean"]),
    ):
        chosen = ((num > 0) & (mean > 0)).to_numpy()
        counts, means = np.where(chosen, num.to_numpy(), 0), mean.to_numpy()
        model, estimate = gamma_gamma.fit(counts[chosen], means[chosen])
        said = model.expected_spend(counts, means)
        found[name] = estimate.as_dict() | _errors(said[shown], wanted[shown])
    return found


def _errors(said: Array, happened: Array) -> dict[str, float]:
    off = said - happened
    return {"mae": float(np.abs(off).mean()), "rmse": float(np.sqrt((off**2).mean()))}


def _expected(model: BGNBD, frequency: Array, recency: Array, T: Array) -> Array:
    free = GammaGamma(1.0, 2.0, 1.0)  # spending is not asked for here
    num = np.zeros(len(T), dtype=np.int64)
    told = forecast(
        model, free, frequency=frequency, recency=recency, T=T, num_priced=num,
        monetary_value=np.ones(len(T)), horizon=float(_WEEKS),
    )  # fmt: skip
    return told.expected_purchases


def _by_frequency(frequency: Array, expected: Array, num: Array) -> list[dict[str, Any]]:
    """Mean purchases in the holdout of customers with 0, 1, … 7 or more repeat purchases before it."""
    rows = []
    for count in range(8):
        chosen = frequency == count if count < 7 else frequency >= 7
        rows.append({
            "frequency": str(count) if count < 7 else "7+",
            "num_customers": int(chosen.sum()),
            "expected": float(expected[chosen].mean()),
            "happened": float(num[chosen].mean()),
        })  # fmt: skip
    return rows


def _by_week(model: BGNBD, table: pl.DataFrame, days: pl.DataFrame) -> list[dict[str, Any]]:
    """Repeat purchases of everybody in each week from the first, as expected of new customers and as made."""
    repeat = days.filter(pl.col("day") > pl.col("day").min().over("customer"))
    week = ((repeat["day"] - _FIRST).dt.total_days() // 7).to_numpy()
    made = np.bincount(week, minlength=2 * _WEEKS)
    begins = _WEEKS - table["T"].to_numpy()  # weeks after the first of January 1997
    expected = np.zeros(2 * _WEEKS + 1)
    first = np.zeros(1)
    for at in range(1, 2 * _WEEKS + 1):
        for begin, num in zip(*np.unique(begins[begins < at], return_counts=True), strict=True):
            expected[at] += num * model.alive_purchases(0.0, first, float(at - begin))[0]
    return [
        {"week": at + 1, "expected": float(expected[at + 1] - expected[at]), "happened": int(made[at])}
        for at in range(2 * _WEEKS)
    ]


def _data_sha256(data: Path) -> dict[str, str]:
    return {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("cdnow", "online_retail")
        for path in sorted((data / name).iterdir())
        if path.is_file()
    }


def main() -> None:
    """Print the figures as JSON; --out keeps them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of the public data sets")
    parser.add_argument("--before", type=Path, help="figures of an earlier commit, kept beside")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    found = {
        "format_version": 2,
        "data_sha256": _data_sha256(arguments.data),
        "cdnow": cdnow(arguments.data),
        "cdnow_in_windows": cdnow_in_windows(arguments.data),
        "online_retail": online_retail(arguments.data),
    }
    if arguments.before:
        found["before"] = json.loads(arguments.before.read_text(encoding="utf-8"))
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
