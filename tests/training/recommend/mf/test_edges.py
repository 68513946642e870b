"""What a factorisation says of users and items that it knows nothing of, and of new ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from shopsight.training.jobs.search import SearchConfig
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.embedding.config import EmbeddingConfig, LoopConfig, TwoTowerConfig
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from tests.training.tastes import CONFIG, tastes

SMALL = MFConfig(num_factors=8, num_epochs=4)


def _random(rows: int, columns: int, seed: int = 0) -> sparse.csr_matrix:
    return sparse.random(rows, columns, 0.1, format="csr", dtype=np.float32, random_state=seed)


def _ratings(seed: int = 0) -> sparse.csr_matrix:
    random = np.random.default_rng(seed)
    user_bias, item_bias = random.normal(0, 0.8, 300), random.normal(0, 0.5, 40)
    seen = sparse.random(300, 40, 0.4, format="csr", dtype=np.float32, random_state=seed)
    user = np.repeat(np.arange(300), np.diff(seen.indptr))
    seen.data = (3 + user_bias[user] + item_bias[seen.indices]).astype(np.float32)
    return seen


@pytest.mark.parametrize("where", ["all of it", "one entry"])
def test_validation_that_is_fitted_to_is_refused(where):
    matrix, held_out = tastes()
    if where == "all of it":
        overlapping = matrix
    else:
        overlapping = held_out.tolil()
        overlapping[7, matrix[7].indices[0]] = 1
        overlapping = overlapping.tocsr()
    with pytest.raises(
        ValueError, match=r"validation: [\d,]+ of its .* are in user_items too, the first in row"
    ):
        MatrixFactorization(CONFIG).fit(matrix, validation=overlapping)


@pytest.mark.parametrize("objective", ["observed", "confidence"])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_user_of_whom_nothing_is_known_gets_what_is_popular(objective, storage):
    disliked = sparse.csr_matrix((np.float32([-1, -1]), ([0, 0], [7, 9])), shape=(1, 50))
    matrix = sparse.vstack([_random(200, 50), sparse.csr_matrix((1, 50), dtype=np.float32), disliked]).tocsr()
    config = MFConfig(num_factors=8, num_epochs=4, objective=objective, storage=storage)
    model, popular = MatrixFactorization(config).fit(matrix), np.bincount(matrix.indices, minlength=50)
    order = np.argsort(-popular, kind="stable")
    ids, scores = model.recommend([200, 3, 201], k=5, exclude_items=order[:2])
    assert ids[0].tolist() == order[2:7].tolist() and not scores[0].any()
    assert not np.isin(ids[2], [7, 9, *order[:2]]).any() and (np.diff(popular[ids[2]]) <= 0).all()
    everything, scores = model.recommend([200], k=50, exclude_items=[3])
    assert everything[0, -1] == -1 and scores[0, -1] == -np.inf and len(set(everything[0])) == 50


def test_an_item_that_nobody_touched_is_near_to_none_and_none_to_it():
    # Two tastes: the cosine of items of different tastes is below that of nothing at all.
    matrix = sparse.hstack([tastes()[0], sparse.csr_matrix((400, 1), dtype=np.float32)]).tocsr()
    model = MatrixFactorization(CONFIG).fit(matrix)
    last = matrix.shape[1] - 1
    ids, cosines = model.similar_items([last, 4], k=last)
    assert (ids[0] == -1).all() and (cosines[0] == -np.inf).all()
    assert last not in ids[1]
    touched = np.bincount(matrix.indices, minlength=last + 1) > 0
    assert set(ids[1][ids[1] >= 0]) == set(np.flatnonzero(touched)) - {4}


def test_partial_fit_items_adds_and_refits_items_as_a_half_step_does(tmp_path):
    matrix = tastes()[0]
    model = MatrixFactorization(CONFIG).fit(matrix)
    old = model.item_factors.copy()
    like_four = matrix[:, [4]].T.tocsr()
    model.partial_fit_items(like_four, [matrix.shape[1]])
    assert model.item_factors.shape[0] == matrix.shape[1] + 1 and (model.item_factors[:-1] == old).all()
    # An item with the customers of another is that item, as the users see it.
    np.testing.assert_allclose(
        model.user_factors @ model.item_factors[-1],
        model.user_factors @ MatrixFactorization.partial_fit_items(
            MatrixFactorization(CONFIG).fit(matrix), like_four, [4]
        ).item_factors[4],
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    assert model.user_items.shape[1] == matrix.shape[1] + 1
    assert (model.user_items[:, -1] != matrix[:, 4]).nnz == 0
    ids, _ = model.similar_items([matrix.shape[1]], k=1)
    assert ids[0, 0] == 4
    # What was added is asked about, folded in against, saved and loaded as any other item is.
    wider = sparse.hstack([matrix[:3], matrix[:3, [4]]]).tocsr()
    assert model.fold_in(wider).shape == (3, CONFIG.num_factors)
    model.partial_fit(wider, [0, 1, 2])
    model.save(tmp_path)
    loaded = MatrixFactorization.load(tmp_path)
    assert (loaded.item_factors == model.item_factors).all()
    assert loaded.staleness().new_share == model.staleness().new_share > 0


def test_partial_fit_items_repeated_does_not_drift_and_keeps_explicit_biases():
    ratings = _ratings()
    config = MFConfig(num_factors=4, objective="explicit", regularization=0.02, num_epochs=6)
    model = MatrixFactorization(config).fit(ratings)
    model.partial_fit_items(ratings.T.tocsr(), np.arange(40))
    factors, bias = model.item_factors.copy(), model.item_bias.copy()
    for _ in range(3):
        model.partial_fit_items(ratings.T.tocsr(), np.arange(40))
    assert np.abs(model.item_factors - factors).max() < 1e-5
    assert np.abs(model.item_bias - bias).max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "items", "words"),
    [
        ((1, 199), [50], r"item_users: shape \(1, 199\) must be \(1, 200\); partial_fit adds users"),
        ((1, 200), [52], "items: new items must follow 49 without a gap"),
        ((2, 200), [3, 3], "items: must be distinct"),
    ],
)
def test_new_items_that_do_not_fit_are_refused_by_name(shape, items, words):
    model = MatrixFactorization(SMALL).fit(_random(200, 50))
    with pytest.raises(ValueError, match=words):
        model.partial_fit_items(sparse.csr_matrix(shape, dtype=np.float32), items)
    with pytest.raises(ValueError, match="partial_fit_items adds items"):
        model.partial_fit(sparse.csr_matrix((1, 51), dtype=np.float32), [200])


def test_the_rating_of_somebody_new_holds_both_biases():
    ratings = _ratings()
    train, new = ratings[:250], ratings[250:]
    config = MFConfig(num_factors=4, objective="explicit", regularization=0.02, num_epochs=10)
    model = MatrixFactorization(config).fit(train)
    predicted = model.predict_new(new)
    row = np.repeat(np.arange(50), np.diff(new.indptr))
    assert np.sqrt(np.mean((predicted[row, new.indices] - new.data) ** 2)) < 0.1
    factors, bias = model.fold_in_with_bias(new)
    by_hand = model.mean + model.item_bias + bias[:, None] + factors.astype(np.float64) @ model.item_factors.T
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-4)
    # The same users, added: the same ratings.
    model.partial_fit(new, np.arange(250, 300))
    np.testing.assert_allclose(model.predict(np.arange(250, 300)), predicted, rtol=1e-4)
    _, scores = model.recommend([250], k=3, filter_viewed=False)
    np.testing.assert_allclose(scores[0], np.sort(predicted[0])[::-1][:3], rtol=1e-4)


@pytest.mark.parametrize("objective", ["observed", "confidence"])
def test_without_explicit_ratings_a_prediction_is_the_product(objective):
    matrix = _random(100, 30)
    model = MatrixFactorization(MFConfig(num_factors=8, num_epochs=2, objective=objective)).fit(matrix)
    np.testing.assert_allclose(
        model.predict([3, 4]), model.user_factors[[3, 4]] @ model.item_factors.T, rtol=1e-5, atol=1e-6
    )
    assert not model.fold_in_with_bias(matrix[:2])[1].any()


def test_settings_drawn_with_numpy_are_fitted_saved_and_loaded(tmp_path):
    random, matrix = np.random.default_rng(0), _random(60, 30)
    config = MFConfig(
        num_factors=random.choice([8, 16]),
        regularization=np.float32(0.01),
        unobserved_weight=np.float64(0.1),
        num_epochs=np.array(2),
        validation_k=np.uint8(5),
        storage=np.str_("float32"),
        seed=np.int64(3),
    )
    model = MatrixFactorization(config).fit(matrix, checkpoint=tmp_path / "checkpoint")
    model.save(tmp_path / "saved")
    loaded = MatrixFactorization.load(tmp_path / "saved")
    assert loaded.config == config and (loaded.user_factors == model.user_factors).all()
    assert type(config.num_factors) is int and type(config.regularization) is float
    assert type(config.storage) is str


def test_every_configuration_keeps_pythons_own_values():
    recommend = RecommendConfig(
        factors=np.int32(8), unobserved_weights=np.array([0.1, 0.2]), blend=np.bool_(True)
    )
    assert recommend.unobserved_weights == (0.1, 0.2) and recommend.blend is True
    assert type(recommend.factors) is int
    towers = TwoTowerConfig(dim=np.float64(16), layers=[np.int64(8)], loop=LoopConfig(epochs=np.int16(2)))
    assert towers.dim == 16 and type(towers.dim) is int and towers.layers == (8,)
    assert type(EmbeddingConfig(two_tower=towers).two_tower.loop.epochs) is int
    assert type(SearchConfig(num_trials=np.int64(3)).num_trials) is int
    assert ProfilesConfig(half_lives_days=np.array([7.0, 30.0])).half_lives_days == (7.0, 30.0)


@pytest.mark.parametrize("value", [8.5, np.float32(8.5), np.nan, np.inf])
def test_a_fraction_where_a_whole_number_belongs_is_refused(value):
    with pytest.raises(ValueError, match=r"num_factors=.*must be a whole number"):
        MFConfig(num_factors=value)
