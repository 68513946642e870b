"""Millions of customers from purchase histories to a forecast each, alone and beside lifetimes.

The peer runs in an environment of its own: SHOPSIGHT_LIFETIMES_PYTHON names its interpreter (made with
`pip install "numpy<2" "pandas<2.2" "scipy<1.12" lifetimes==0.11.3`); without it the peer's rows are left out.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runner import Report
from shopsight.training.value import bgnbd, gamma_gamma
from shopsight.training.value.forecast import Forecast, forecast

Array = np.ndarray[Any, Any]
LIFETIMES_PYTHON = "SHOPSIGHT_LIFETIMES_PYTHON"
SIZES = (100_000, 1_000_000, 10_000_000)
PEER_SIZES = (10_000, 100_000, 1_000_000)
ROUNDS = 3
HORIZON_DAYS = 90.0
TRUTH = {"r": 0.5, "alpha": 40.0, "a": 0.8, "b": 6.0}


@dataclass(frozen=True)
class Customers:
    """One entry a customer; times in whole days."""

    frequency: Array
    recency: Array
    T: Array
    num_priced: Array
    monetary_value: Array

    @staticmethod
    def drawn(num: int, seed: int = 0) -> Customers:
        """Customers of two years who buy and spend as the models say; day for day, all at once."""
        rng = np.random.default_rng(seed)
        T = rng.integers(1, 731, num).astype(np.float64)
        rate = rng.gamma(TRUTH["r"], 1 / TRUTH["alpha"], num)
        stop = rng.beta(TRUTH["a"], TRUTH["b"], num)
        frequency, last, now = np.zeros(num, dtype=np.int64), np.zeros(num), np.zeros(num)
        active = np.arange(num)
        while len(active):
            now[active] += rng.exponential(1 / rate[active])
            active = active[now[active] <= T[active]]
            frequency[active] += 1
            last[active] = now[active]
            active = active[rng.random(len(active)) > stop[active]]
        recency = np.ceil(last)
        frequency = np.minimum(frequency, recency.astype(np.int64))  # a day is one purchase
        own = 1 / rng.gamma(3.7, 1 / 15.4, num)
        mean = rng.gamma(6.2 * (frequency + 1)) * own / (frequency + 1)
        return Customers(frequency, recency, T, frequency + 1, mean)


def run(report: Report) -> None:
    """Speed at three sizes with the growth between them, then the peer on what it can take."""
    for num in SIZES:
        alone(report, num)
    python = os.environ.get(LIFETIMES_PYTHON)
    if not python:
        report.say(f"lifetimes left out: {LIFETIMES_PYTHON} names no interpreter")
        return
    for num in PEER_SIZES:
        beside_lifetimes(report, num, python)


def whole(customers: Customers) -> tuple[Forecast, dict[str, float], dict[str, float]]:
    """From histories to a row each; returns it with the parameters and the seconds of each part."""
    began = time.perf_counter()
    buying, estimate = bgnbd.fit(customers.frequency, customers.recency, customers.T)
    bought = time.perf_counter()
    spending, _ = gamma_gamma.fit(customers.num_priced, customers.monetary_value)
    spent = time.perf_counter()
    told = forecast(
        buying,
        spending,
        frequency=customers.frequency,
        recency=customers.recency,
        T=customers.T,
        num_priced=customers.num_priced,
        monetary_value=customers.monetary_value,
        horizon=HORIZON_DAYS,
    )
    done = time.perf_counter()
    seconds = {"bgnbd": bought - began, "gamma_gamma": spent - bought, "forecast": done - spent}
    return told, estimate.parameters, seconds


def alone(report: Report, num: int) -> None:
    """No peer takes so many; ten million are to take under a minute."""
    customers = Customers.drawn(num)
    distinct = len(bgnbd.DistinctHistories.of(customers.frequency, customers.recency, customers.T).T)
    parts = []
    for _ in range(ROUNDS if num < 10_000_000 else 1):
        told, parameters, seconds = whole(customers)
        parts.append(seconds)
    total = [sum(one.values()) for one in parts]
    assert np.isfinite(told.value).all() and (told.value_low <= told.value_high).all()
    report.add_times(
        f"{num:,} customers to value, interval and churn",
        "none",
        total,
        total,
        metric="growth",
        num_interactions=num,
        distinct_histories=distinct,
        stages={name: float(np.median([one[name] for one in parts])) for name in parts[0]},
        parameters=parameters,
        truth=TRUTH,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def beside_lifetimes(report: Report, num: int, python: str) -> None:
    """The same histories; lifetimes gives no intervals, so ours does more. Rounds are interleaved."""
    customers = Customers.drawn(num, seed=1)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **vars(customers))
        peer = Path(__file__).with_name("lifetimes_peer.py")
        command = [python, "-W", "ignore", str(peer), str(given), str(out), str(HORIZON_DAYS)]
        for _ in range(ROUNDS):
            told, parameters, seconds = whole(customers)
            ours.append(sum(seconds.values()))
            subprocess.run(command, check=True, stdout=sys.stderr)
            found = dict(np.load(out))
            theirs.append(float(found["seconds"].sum()))
    difference = np.abs(found["purchases"] - told.expected_purchases).max()
    report.add_times(
        f"{num:,} customers to expected purchases and spending",
        "lifetimes 0.11.3",
        ours,
        theirs,
        largest_difference_in_purchases=float(difference),
        parameters=parameters,
        their_parameters=found["parameters"].tolist(),
    )
