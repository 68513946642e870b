"""The factorisation that users of the library meet: what it promises after fit, save, kill and load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.fold_in import FoldIn
from shopsight.training.artifacts.factor_store import InMemory
from shopsight.training.recommend.mf import fitting as mf_fitting
from shopsight.training.recommend.mf import fixed_side
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import Fitted
from shopsight.training.recommend.mf.files import read_state
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.mf.validation import validate
from tests.recorded_progress import RecordedProgress
from tests.training.tastes import CONFIG, tastes


@pytest.fixture(scope="module")
def shop():
    return tastes()


@pytest.fixture(scope="module")
def fitted(shop):
    return MatrixFactorization(CONFIG).fit(shop[0], validation=shop[1])


def test_it_finds_what_was_held_out(shop, fitted):
    ids, _ = fitted.recommend(np.arange(400), k=10)
    hits = np.mean([np.isin(shop[1][user].indices, ids[user]).mean() for user in range(400)])
    assert hits > 0.75  # 10 of the 108 unseen at random would be 0.09


@pytest.mark.parametrize("objective", ["observed", "explicit"])
def test_every_epoch_is_counted_also_those_before_a_restart(shop, tmp_path, objective):
    config = replace(CONFIG, objective=objective, num_epochs=4)
    MatrixFactorization(replace(config, num_epochs=2)).fit(shop[0], checkpoint=tmp_path)
    for folder, num_lines in ((tmp_path / "new", 4), (tmp_path, 2)):
        progress = RecordedProgress()
        MatrixFactorization(config).fit(shop[0], checkpoint=folder, progress=progress)
        assert progress.total_of("epochs") == progress.done_of("epochs") == 4
        assert sum(isinstance(one, str) and one.endswith(" of 4") for one in progress.told) == num_lines


def test_recommendations_leave_out_what_was_seen_unless_asked(shop, fitted):
    ids, scores = fitted.recommend([3, 5], k=20)
    assert not np.isin(ids[0], shop[0][3].indices).any()
    assert (np.diff(scores, axis=1) <= 0).all()
    again, _ = fitted.recommend([3], k=20, filter_viewed=False)
    assert np.isin(again[0], shop[0][3].indices).any()
    banned, _ = fitted.recommend([3], k=20, exclude_items=ids[0][:2])
    assert not np.isin(ids[0][:2], banned).any()


def test_similar_items_are_near_and_never_the_item_itself(fitted):
    ids, cosines = fitted.similar_items([4, 9], k=5)
    assert not np.isin([4, 9], ids.diagonal()).any() and 4 not in ids[0]
    y = fitted.item_factors
    true = y[ids[0][0]] @ y[4] / np.linalg.norm(y[ids[0][0]]) / np.linalg.norm(y[4])
    assert cosines[0][0] == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize("objective", ["observed", "confidence", "explicit"])
def test_an_explanation_sums_to_the_score(shop, objective):
    random = np.random.default_rng(1)
    ratings = shop[0].copy()
    ratings.data = random.integers(1, 6, ratings.nnz).astype(np.float32)
    config = MFConfig(
        num_factors=6,
        objective=objective,
        num_epochs=3,
        regularization=0.1,
        unobserved_weight=0.5,
        backend="cpu",
    )
    model = MatrixFactorization(config).fit(ratings)
    score, reasons = model.explain(7, 20, num_reasons=100)
    # the user's bias is solved together with the factors, and is zero unless ratings are explicit
    expected = float(model.user_factors[7] @ model.item_factors[20] + model.user_bias[7])
    assert score == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert sum(part for _, part in reasons) == pytest.approx(score)
    assert {item for item, _ in reasons} == set(ratings[7].indices.tolist())
    assert [part for _, part in reasons] == sorted((part for _, part in reasons), reverse=True)


def test_folding_a_known_user_in_gives_the_factors_of_training(shop, fitted):
    np.testing.assert_allclose(fitted.fold_in(shop[0][:9]), fitted.user_factors[:9], rtol=1e-4, atol=1e-5)


def test_two_fits_give_the_same_bits(shop, fitted):
    again = MatrixFactorization(CONFIG).fit(shop[0], validation=shop[1])
    np.testing.assert_array_equal(again.user_factors, fitted.user_factors)
    np.testing.assert_array_equal(again.item_factors, fitted.item_factors)


def test_what_is_saved_is_what_is_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = MatrixFactorization.load(tmp_path / "model")
    assert loaded.config == fitted.config and loaded.history == fitted.history
    for one, other in zip(loaded.recommend([1, 2], 5), fitted.recommend([1, 2], 5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.explain(1, 2) == fitted.explain(1, 2)


def test_a_kill_while_saving_leaves_the_last_good_model(fitted, shop, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    fitted.save(folder)
    other = MatrixFactorization(MFConfig(num_factors=3, num_epochs=1, backend="cpu")).fit(shop[0])
    monkeypatch.setattr("shopsight.training.recommend.mf.files.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        other.save(folder)
    np.testing.assert_array_equal(MatrixFactorization.load(folder).user_factors, fitted.user_factors)


def test_damage_is_named(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.json"):
        MatrixFactorization.load(tmp_path)
    fitted.save(tmp_path)
    tensors = next(tmp_path.glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"factors-.*SHA-256"):
        MatrixFactorization.load(tmp_path)


@pytest.mark.parametrize("objective", ["observed", "explicit"])
def test_an_interrupted_fit_goes_on_to_the_same_bits(shop, tmp_path, objective):
    config = MFConfig(
        num_factors=8, objective=objective, num_epochs=5, regularization=0.05, patience=9, backend="cpu"
    )
    whole = MatrixFactorization(config).fit(shop[0], validation=shop[1])

    class KilledError(Exception):
        pass

    def kill_in_third_epoch(line):
        if line.startswith("epoch 3 of"):
            raise KilledError

    with pytest.raises(KilledError):
        MatrixFactorization(config).fit(
            shop[0], validation=shop[1], checkpoint=tmp_path, progress=kill_in_third_epoch
        )
    assert read_state(tmp_path)[1]["epoch"] == 2
    lines: list[str] = []
    resumed = MatrixFactorization(config).fit(
        shop[0], validation=shop[1], checkpoint=tmp_path, progress=lines.append
    )
    assert any("resuming after epoch 2" in line for line in lines)
    np.testing.assert_array_equal(resumed.user_factors, whole.user_factors)
    assert resumed.history == whole.history


def test_a_checkpoint_of_other_data_is_not_resumed(shop, tmp_path):
    MatrixFactorization(CONFIG).fit(shop[0], checkpoint=tmp_path)
    lines: list[str] = []
    MatrixFactorization(CONFIG).fit(shop[1], checkpoint=tmp_path, progress=lines.append)
    assert any("other data or settings" in line for line in lines)


def test_training_stops_when_validation_no_longer_rises_and_keeps_the_best(shop, monkeypatch):
    figures = iter([0.1, 0.4, 0.3, 0.2, 0.1, 0.9])
    monkeypatch.setattr(mf_fitting, "validate", lambda *_: {"recall": 0.0, "ndcg": next(figures)})
    config = MFConfig(num_factors=4, num_epochs=6, patience=3, backend="cpu")
    model = MatrixFactorization(config).fit(shop[0], validation=shop[1])
    assert len(model.history) == 5
    monkeypatch.undo()
    two = MatrixFactorization(MFConfig(num_factors=4, num_epochs=2, backend="cpu")).fit(
        shop[0], validation=shop[1]
    )
    np.testing.assert_array_equal(model.item_factors, two.item_factors)


def test_validation_figures_are_those_of_a_full_ranking(shop, fitted):
    stores = InMemory(fitted.user_factors), InMemory(fitted.item_factors)
    state = Fitted(*stores, np.zeros(400, np.float32), np.zeros(120, np.float32))
    recall, ndcg = validate(state, shop[0], shop[1], CONFIG).values()
    scores = fitted.user_factors.astype(np.float64) @ fitted.item_factors.T.astype(np.float64)
    scores[shop[0].nonzero()] = -np.inf
    recalls, ndcgs = [], []
    for user in range(400):
        hits = np.isin(np.argsort(-scores[user])[:20], shop[1][user].indices)
        recalls.append(hits.sum() / 4)
        ndcgs.append((hits / np.log2(np.arange(2, 22))).sum() / (1 / np.log2(np.arange(2, 6))).sum())
    assert recall == pytest.approx(np.mean(recalls)) and ndcg == pytest.approx(np.mean(ndcgs))


def test_partial_fit_moves_and_adds_users(shop):
    model = MatrixFactorization(CONFIG).fit(shop[0])
    before = model.user_factors.copy()
    model.partial_fit(sparse.csr_matrix(shop[0][[5, 6]]), [0, 400])
    np.testing.assert_allclose(model.user_factors[[0, 400]], before[[5, 6]], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.user_factors[1:400], before[1:])
    ids, _ = model.recommend([400], 30)
    assert not np.isin(ids, shop[0][6].indices).any()
    with pytest.raises(ValueError, match="without a gap"):
        model.partial_fit(shop[0][:1], [500])


def test_explicit_ratings_recover_a_low_rank_table_with_biases():
    random = np.random.default_rng(2)
    taste, trait = random.standard_normal((150, 2)), random.standard_normal((90, 2))
    table = 3 + taste @ trait.T + random.standard_normal((150, 1)) + random.standard_normal((1, 90))
    known = random.random(table.shape) < 0.4
    ratings = sparse.csr_matrix(np.where(known, table, 0).astype(np.float32))
    config = MFConfig(num_factors=4, objective="explicit", num_epochs=25, regularization=0.005, backend="cpu")
    model = MatrixFactorization(config).fit(ratings)
    x, y = model.user_factors, model.item_factors
    predicted = model.mean + model.user_bias[:, None] + model.item_bias[None] + x @ y.T
    error = np.sqrt(np.mean((predicted - table)[~known] ** 2))
    assert error < 0.2 * table.std()
    _, scores = model.recommend([0], 3, filter_viewed=False)
    np.testing.assert_allclose(scores[0], np.sort(predicted[0])[::-1][:3], rtol=1e-3)


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_precision_storage_recommends_almost_the_same(shop, fitted, storage):
    half = MatrixFactorization(replace(CONFIG, storage=storage)).fit(shop[0], validation=shop[1])
    assert half.user_factors.dtype.name == storage
    assert half.history[-1]["ndcg"] == pytest.approx(fitted.history[-1]["ndcg"], abs=0.02)


def test_the_memory_plan_comes_first(shop):
    lines: list[str] = []
    MatrixFactorization(CONFIG).fit(shop[0], progress=lines.append)
    assert lines[0].startswith("memory plan: all in core")


def test_folding_in_takes_the_items_to_the_backend_once(shop, monkeypatch):
    model = MatrixFactorization(CONFIG).fit(shop[0])
    made = []

    class Counted(FoldIn):
        def __init__(self, *arguments, **options):
            made.append(1)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(fixed_side, "FoldIn", Counted)
    for user in range(5):
        model.fold_in(shop[0][user])
        model.partial_fit(shop[0][user], [user])
    assert len(made) == 1
    model.fit(shop[1])
    np.testing.assert_allclose(model.fold_in(shop[1][:3]), model.user_factors[:3], rtol=1e-4, atol=1e-5)
    assert len(made) == 2, "new items are taken anew"


def test_divergence_names_the_epoch(shop):
    config = MFConfig(num_factors=4, num_epochs=3, alpha=3e38, regularization=1e-30, backend="cpu")
    with pytest.raises(DivergenceError, match=r"epoch [12]: .*raise the regularization"):
        MatrixFactorization(config).fit(shop[0])
