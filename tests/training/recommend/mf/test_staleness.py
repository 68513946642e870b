"""partial_fit and what it says of the items that stand still meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from shopsight.kernels.reference.als import half_step, loss
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.mf.objective import rows_of

NUM_USERS, NUM_ITEMS = 900, 250
CONFIG = MFConfig(num_factors=12, num_epochs=10, regularization=0.01, backend="cpu")


class Market:
    """Users who like items by their traits, some of which can change."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.taste = random.standard_normal((NUM_USERS, 5))
        self.trait = random.standard_normal((NUM_ITEMS, 5))
        self.popularity = -0.6 * np.log(1 + random.permutation(NUM_ITEMS))

    def drifted(self):
        other = Market()
        random = np.random.default_rng(9)
        moved = random.random(NUM_ITEMS) < 0.5
        other.trait = np.where(moved[:, None], random.standard_normal(self.trait.shape), self.trait)
        return other

    def draw(self, users, seed):
        scores = self.taste[users] @ self.trait.T + self.popularity
        scores += np.random.default_rng(seed).gumbel(size=scores.shape)
        items = np.argsort(-scores, axis=1)[:, :12]
        rows = np.repeat(np.arange(len(users)), 12)
        values = np.ones(items.size, np.float32)
        return sparse.csr_matrix((values, (rows, items.ravel())), (len(users), NUM_ITEMS))


@pytest.fixture(scope="module")
def market():
    return Market()


@pytest.fixture(scope="module")
def saved(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    MatrixFactorization(CONFIG).fit(market.draw(np.arange(NUM_USERS), 1)).save(folder)
    return folder


def objective(model):
    """Both sides' terms, in float64."""
    users = rows_of(model.user_items, model.config)
    items = rows_of(model.user_items.T.tocsr(), model.config)
    squares = np.sum(model.item_factors.astype(np.float64) ** 2, axis=1)
    total = loss(users, model.user_factors, model.item_factors, model.config.missing_weight)
    return total + float(items.regularization @ squares)


def moved_on(saved, market, share, seed=7):
    users = np.random.default_rng(2).permutation(NUM_USERS)[: int(share * NUM_USERS)]
    return MatrixFactorization.load(saved).partial_fit(market.draw(users, seed), users)


@pytest.mark.parametrize("objective_name", ["observed", "confidence", "explicit"])
def test_nothing_is_stale_right_after_a_fit(market, objective_name):
    ratings = market.draw(np.arange(NUM_USERS), 1)
    ratings.data = np.random.default_rng(1).integers(1, 6, ratings.nnz).astype(np.float32)
    model = MatrixFactorization(replace(CONFIG, objective=objective_name, num_epochs=4)).fit(ratings)
    told = model.staleness()
    assert (told.new_share, told.error, told.should_refit) == (0, 0, False)
    same = model.partial_fit(model.user_items[:50], np.arange(50)).staleness()
    assert same.new_share == 0 and same.error < 1e-4
    other = market.drifted().draw(np.arange(NUM_USERS), 2)
    other.data = np.random.default_rng(3).integers(1, 6, other.nnz).astype(np.float32)
    after = model.partial_fit(other, np.arange(NUM_USERS)).staleness()
    assert after.new_share > 0.5 and after.error > 0.01 and after.should_refit


def test_the_error_grows_with_what_is_new_and_faster_where_tastes_drift(saved, market):
    shares = (0.05, 0.2, 0.5, 0.9)
    kept = [moved_on(saved, market, share).staleness() for share in shares]
    drift = [moved_on(saved, market.drifted(), share).staleness() for share in shares]
    for told in (kept, drift):
        assert [t.error for t in told] == sorted(t.error for t in told)
    assert all(d.error > k.error for d, k in zip(drift, kept, strict=True))
    assert not kept[0].should_refit and drift[-1].should_refit
    assert kept[0].new_share == pytest.approx(0.05, abs=0.04) and "no need to fit again yet" in str(kept[0])
    assert str(drift[-1]).endswith("fit again")


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_error_is_about_half_of_what_a_full_fit_would_gain(saved, market, share):
    standing = moved_on(saved, market.drifted(), share)
    again = MatrixFactorization(CONFIG).fit(standing.user_items)
    before, after = objective(standing), objective(again)
    assert standing.staleness().error == pytest.approx(0.5 * (before - after) / -after, rel=0.5)


def test_the_error_is_that_of_one_exact_half_step_over_all_items(saved, market):
    model = moved_on(saved, market.drifted(), 0.4)
    items = rows_of(model.user_items.T.tocsr(), CONFIG)
    users, weight = model.user_factors.astype(np.float64), CONFIG.missing_weight
    moved = half_step(items, users, weight)
    standing, best = (loss(items, y, users, weight) for y in (model.item_factors, moved))
    at_fit = MatrixFactorization.load(saved)._error_of_fit()
    assert model.staleness().error == pytest.approx((standing - best) / -best - at_fit, rel=0.05)


def test_staleness_survives_saving(saved, market, tmp_path):
    model = moved_on(saved, market.drifted(), 0.3)
    model.save(tmp_path)
    told, expected = MatrixFactorization.load(tmp_path).staleness(), model.staleness()
    assert told.new_share == expected.new_share > 0.2
    assert told.error == pytest.approx(expected.error)


@pytest.mark.parametrize("objective_name", ["observed", "confidence", "explicit"])
def test_refitted_users_get_the_half_step_of_fit(market, objective_name):
    ratings = market.draw(np.arange(NUM_USERS), 1)
    ratings.data = np.random.default_rng(1).integers(1, 6, ratings.nnz).astype(np.float32)
    model = MatrixFactorization(replace(CONFIG, objective=objective_name, num_epochs=3)).fit(ratings)
    factors, bias = model.user_factors.copy(), model.user_bias.copy()
    users = np.array([5, 700, 31])
    model.user_factors[users] = 0
    model.partial_fit(ratings[users], users)
    np.testing.assert_allclose(model.user_factors, factors, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.user_bias, bias, rtol=1e-5, atol=1e-6)


def test_new_users_join_and_wrong_numbers_are_refused(saved, market):
    model = MatrixFactorization.load(saved)
    fresh = market.draw(np.arange(3), 5)
    model.partial_fit(fresh, [NUM_USERS + 1, 4, NUM_USERS])
    assert model.user_items.shape == (NUM_USERS + 2, NUM_ITEMS)
    np.testing.assert_array_equal(model.user_items[[NUM_USERS + 1, 4]].toarray(), fresh[:2].toarray())
    np.testing.assert_allclose(model.user_factors[NUM_USERS], model.fold_in(fresh[2])[0], rtol=1e-5)
    with pytest.raises(ValueError, match="distinct"):
        model.partial_fit(fresh[:2], [1, 1])
    with pytest.raises(TypeError, match=r"users: must be row numbers.*float64"):
        model.partial_fit(fresh[:2], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"users: every row .* not -1"):
        model.partial_fit(fresh[:1], [-1])
    with pytest.raises(ValueError, match=r"user_items: shape \(3, 250\) must be \(2, 250\)"):
        model.partial_fit(fresh, [1, 2])
    with pytest.raises(ValueError, match="without a gap"):
        model.partial_fit(fresh[:1], [NUM_USERS + 3])
