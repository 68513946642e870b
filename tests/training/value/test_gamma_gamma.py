"""Gamma-Gamma against its definition, integrated over every customer's own mean."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.integrate import quad

from shopsight.training.value import gamma_gamma
from shopsight.training.value.fitting import IdentifiabilityWarning
from shopsight.training.value.gamma_gamma import GammaGamma, log_likelihood
from tests.training.value.shoppers import spending
from tests.training.value.test_bgnbd import CDNOW

MODEL = GammaGamma(6.25, 3.74, 15.4)
CUSTOMERS = [(1, 12.0), (3, 80.0), (40, 9.5), (2, 0.05)]


def _integral(num: int, mean: float, power: int) -> float:
    """Of the density of a mean spending times the customer's own mean to a power."""
    own = stats.gamma(MODEL.q, scale=1 / MODEL.v)

    def at(nu: float) -> float:
        density = stats.gamma.pdf(mean, MODEL.p * num, scale=1 / (num * nu))
        return float(density * (MODEL.p / nu) ** power * own.pdf(nu))

    edges = [0.0, *own.ppf([0.01, 0.3, 0.7, 0.99, 1 - 1e-9]), 20.0]
    return float(sum(quad(at, lo, hi, limit=300)[0] for lo, hi in pairwise(edges)))


@pytest.mark.parametrize(("num", "mean"), CUSTOMERS)
def test_the_likelihood_is_the_integral_of_its_definition(num: int, mean: float) -> None:
    found, _ = log_likelihood(np.array([num]), np.array([mean]))(np.array([MODEL.p, MODEL.q, MODEL.v]))
    assert found == pytest.approx(np.log(_integral(num, mean, 0)), abs=1e-6)


@pytest.mark.parametrize(("num", "mean"), CUSTOMERS)
def test_expected_spending_is_the_mean_over_what_the_customer_may_be(num: int, mean: float) -> None:
    found = MODEL.expected_spend(np.array([num]), np.array([mean]))[0]
    assert found == pytest.approx(_integral(num, mean, 1) / _integral(num, mean, 0), rel=1e-5)


def test_without_a_purchase_everybodys_mean_is_expected() -> None:
    found = MODEL.expected_spend(np.array([0]), np.array([np.nan]))[0]
    assert found == pytest.approx(MODEL.p * MODEL.v / (MODEL.q - 1))


def test_totals_taken_together_change_nothing_that_counts() -> None:
    rng = np.random.default_rng(0)
    num = rng.integers(1, 30, 3_000)
    mean = spending(num, rng, p=2.0, q=3.0, v=40.0)
    at = np.array([2.1, 3.2, 35.0])
    together, exact = (log_likelihood(num, mean, step)(at) for step in (gamma_gamma._STEP, 1e-9))
    assert together[0] == pytest.approx(exact[0], abs=1e-3)
    np.testing.assert_allclose(together[1], exact[1], rtol=1e-4, atol=1e-3)


def test_a_fit_finds_what_the_spending_was_drawn_from() -> None:
    rng = np.random.default_rng(1)
    num = 1 + rng.poisson(3.0, 6_000)
    truth = {"p": 2.0, "q": 3.5, "v": 40.0}
    _, estimate = gamma_gamma.fit(num, spending(num, rng, **truth))
    for name, value in truth.items():
        error = estimate.standard_errors[name]
        assert error and abs(estimate.parameters[name] - value) < 4 * error, name


def test_the_unit_of_money_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    num = 1 + rng.poisson(2.0, 800)
    mean = spending(num, rng, p=3.0, q=4.0, v=50.0)
    cents, units = (gamma_gamma.fit(num, mean * unit)[0] for unit in (100.0, 1.0))
    assert cents.v == pytest.approx(100 * units.v, rel=2e-2)
    assert cents.p == pytest.approx(units.p, rel=2e-2)


def test_equal_prices_everywhere_are_said_to_tell_nothing() -> None:
    with pytest.warns(IdentifiabilityWarning):
        model, _ = gamma_gamma.fit(np.array([2, 5, 9]), np.full(3, 10.0))
    assert model.expected_spend(np.array([3]), np.array([10.0]))[0] == pytest.approx(10.0, rel=1e-3)


@pytest.mark.shared_data
@pytest.mark.skipif(not CDNOW.is_dir(), reason="the public data sets are not beside the checkout")
def test_cdnow_gives_the_published_parameters() -> None:
    table = pl.read_csv(CDNOW / "cdnow_customers_summary_with_transactions.csv.gz").filter(pl.col("x") > 0)
    model, estimate = gamma_gamma.fit(table["x"].to_numpy(), table["zbar"].to_numpy())
    assert estimate.num_customers == 946
    assert (model.p, model.q, model.v) == (
        pytest.approx(6.249, abs=1e-3), pytest.approx(3.745, abs=1e-3), pytest.approx(15.448, abs=1e-3)
    )  # fmt: skip
