"""BG/NBD against its definition, integrated over every rate and every chance of stopping."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.integrate import quad

from shopsight.training.value import bgnbd
from shopsight.training.value.bgnbd import BGNBD, DistinctHistories, log_likelihood
from shopsight.training.value.fitting import IdentifiabilityWarning
from tests.training.value.shoppers import buyers

CDNOW = Path(__file__).resolve().parents[4] / "shared" / "data" / "cdnow"
MODELS = [BGNBD(0.24, 4.4, 0.79, 2.43), BGNBD(1.7, 60.0, 1.0, 0.6), BGNBD(0.5, 30.0, 3.0, 40.0)]
# frequency, recency, T: never back, back just now, silent for long, often, seen today for the first time.
ODD = [(0, 0.0, 39.0), (2, 30.0, 30.0), (1, 1.0, 5000.0), (60, 200.0, 230.0), (0, 0.0, 0.0), (3, 0.5, 1.0)]


def _over_rates(model: BGNBD, inner: Callable[[float], float]) -> float:
    density = stats.gamma(model.r, scale=1 / model.alpha).pdf
    edges = stats.gamma(model.r, scale=1 / model.alpha).ppf([0, 1e-6, 0.01, 0.5, 0.99, 1 - 1e-12])
    edges[0], edges[-1] = 0.0, 10 * edges[-1] + 10
    parts = [quad(lambda u: inner(u) * density(u), lo, hi, limit=400)[0] for lo, hi in pairwise(edges)]
    return float(sum(parts))


def _stays(model: BGNBD, x: int, T: float) -> float:
    """The probability density of a history of one who has not stopped."""
    goes_on = stats.beta(model.a, model.b).expect(lambda p: (1 - p) ** x)
    return float(goes_on * _over_rates(model, lambda u: u**x * np.exp(-u * T)))


def _likelihood(model: BGNBD, x: int, t_x: float, T: float) -> float:
    """The probability density of a history, from the two ways in which it can have come about."""
    if x == 0:
        return _stays(model, x, T)
    stopped = stats.beta(model.a, model.b).expect(lambda p: p * (1 - p) ** (x - 1))
    return _stays(model, x, T) + stopped * _over_rates(model, lambda u: u**x * np.exp(-u * t_x))


@pytest.mark.parametrize("history", [h for h in ODD if h[0] < 10])
def test_the_likelihood_is_the_integral_of_its_definition(history: tuple[int, float, float]) -> None:
    model = MODELS[0]
    rows = DistinctHistories.of(*(np.array([value]) for value in history))
    value, _ = log_likelihood(rows)(np.array([model.r, model.alpha, model.a, model.b]))
    assert value == pytest.approx(np.log(_likelihood(model, *history)), abs=2e-5)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    objective = log_likelihood(
        DistinctHistories.of(*(np.array(c, dtype=float) for c in zip(*ODD, strict=True)))
    )
    for model in MODELS:
        at = np.array([model.r, model.alpha, model.a, model.b])
        _, gradient = objective(at)
        for i in range(4):
            step = np.eye(4)[i] * 1e-6 * at[i]
            slope = (objective(at + step)[0] - objective(at - step)[0]) / (2 * step[i])
            assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_the_probability_of_being_alive_is_that_of_the_two_ways() -> None:
    model = MODELS[0]
    for x, t_x, T in [(2, 30.0, 30.0), (3, 0.5, 1.0), (2, 10.0, 39.0)]:
        found = model.alive(np.array([float(x)]), np.array([t_x]), np.array([T]))[0]
        assert found == pytest.approx(_stays(model, x, T) / _likelihood(model, x, t_x, T), rel=1e-4)
    assert model.alive(np.zeros(1), np.zeros(1), np.full(1, 1e6))[0] == 1.0


def _expected(model: BGNBD, x: int, T: float, horizon: float) -> float:
    """The paper's equation 10 for a customer who is alive, with fifty digits."""
    with mpmath.workdps(50):
        r, alpha, a, b = (mpmath.mpf(v) for v in (model.r, model.alpha, model.a, model.b))
        a = a + mpmath.mpf(10) ** -25 if a == 1 else a  # its limit, where the formula is 0 / 0
        shape, top, z = r + x, a + b + x - 1, horizon / (alpha + T + horizon)
        shrunk = ((alpha + T) / (alpha + T + horizon)) ** shape * mpmath.hyp2f1(shape, b + x, top, z)
        return float(top / (a - 1) * (1 - shrunk))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("horizon", [1.0, 39.0, 2000.0])
def test_expected_purchases_are_the_papers_with_fifty_digits(model: BGNBD, horizon: float) -> None:
    for x, _, T in ODD:
        found = model.alive_purchases(float(x), np.array([T]), horizon)[0]
        assert found == pytest.approx(_expected(model, x, T, horizon), rel=1e-8)


def test_the_number_of_purchases_is_distributed_as_drawn() -> None:
    model, rng, num = MODELS[1], np.random.default_rng(0), 200_000
    rate, stop = rng.gamma(model.r + 2, 1 / (model.alpha + 50), num), rng.beta(model.a, model.b + 2, num)
    made = np.minimum(rng.poisson(rate * 90), rng.geometric(stop))
    tail = model.alive_tail(2.0, np.array([50.0]), 90.0)[0]
    drawn = np.array([(made > n).mean() for n in range(6)])
    np.testing.assert_allclose(tail[:6], drawn, atol=5 * 0.5 / np.sqrt(num))
    assert (np.diff(tail) <= 0).all() and tail[-1] < 1e-11


def test_a_fit_finds_what_the_customers_were_drawn_from() -> None:
    truth = {"r": 0.8, "alpha": 25.0, "a": 0.9, "b": 3.5}
    frequency, recency, T = buyers(4_000, np.random.default_rng(1), **truth)
    _, estimate = bgnbd.fit(frequency, recency, T)
    assert estimate.doubts == ()
    for name, value in truth.items():
        error = estimate.standard_errors[name]
        assert error and abs(estimate.parameters[name] - value) < 4 * error, name


def test_a_search_that_began_on_rounded_times_ends_where_every_search_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = buyers(1_500, np.random.default_rng(2), r=0.8, alpha=25.0, a=0.9, b=3.5)
    _, direct = bgnbd.fit(*drawn)
    monkeypatch.setattr(bgnbd, "_ROUGH_ROWS", 10)
    _, polished = bgnbd.fit(*drawn)
    assert polished.log_likelihood == pytest.approx(direct.log_likelihood, abs=1e-6)
    for name, value in direct.parameters.items():
        assert polished.parameters[name] == pytest.approx(value, rel=1e-4)


def test_many_equal_customers_weigh_as_many() -> None:
    frequency, recency, T = (np.array(c) for c in zip(*[(0, 0, 30), (2, 20, 30), (0, 0, 30)], strict=True))
    rows = DistinctHistories.of(frequency, recency, T)
    assert rows.num_customers.tolist() == [2.0, 1.0]
    at = np.array([0.3, 5.0, 0.8, 2.0])
    single = [log_likelihood(DistinctHistories.of(*(c[i : i + 1] for c in (frequency, recency, T))))(at)[0]
              for i in range(3)]  # fmt: skip
    assert log_likelihood(rows)(at)[0] == pytest.approx(sum(single))


@pytest.mark.parametrize(
    ("frequency", "recency"), [(np.zeros(50, int), np.zeros(50)), (np.array([3]), np.array([10.0]))]
)
def test_what_the_data_cannot_tell_is_said_by_name(frequency: Any, recency: Any) -> None:
    T = np.full(len(frequency), 40.0)
    with pytest.warns(IdentifiabilityWarning, match=r"a, b cannot be estimated"):
        model, estimate = bgnbd.fit(frequency, recency, T)
    assert estimate.doubts and estimate.standard_errors["a"] is None
    alive = model.alive(frequency.astype(float), recency, T)
    expected = alive * model.alive_purchases(float(frequency[0]), T, 30.0)
    assert np.isfinite(expected).all() and (expected >= 0).all()
    if not frequency.any():
        assert expected.max() < 1e-3  # nobody ever came back, so nobody is expected to


@pytest.mark.shared_data
@pytest.mark.skipif(not CDNOW.is_dir(), reason="the public data sets are not beside the checkout")
def test_cdnow_gives_the_published_parameters() -> None:
    table = pl.read_csv(CDNOW / "cdnow_customers_summary.csv.gz")
    model, estimate = bgnbd.fit(*(table[c].to_numpy() for c in ("frequency", "recency", "T")))
    assert (model.r, model.alpha) == (pytest.approx(0.243, abs=5e-4), pytest.approx(4.414, abs=5e-4))
    assert (model.a, model.b) == (pytest.approx(0.793, abs=5e-4), pytest.approx(2.426, abs=5e-4))
    assert estimate.log_likelihood == pytest.approx(-9582.4, abs=0.05)
