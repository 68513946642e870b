"""Item-to-item models against slow references in float64."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import sparse

from shopsight.training.recommend.neighbours import EASE, Histories, ItemKNN, Transitions
from shopsight.training.recommend.neighbours import counts as counts_module
from shopsight.training.recommend.neighbours import ease as ease_module
from shopsight.training.recommend.neighbours import model as model_module
from shopsight.training.recommend.neighbours import transitions as transitions_module
from shopsight.training.recommend.neighbours.model import ItemToItem

Rows = list[list[int]]


def _drawn(num_customers: int, num_items: int, seed: int = 0) -> Rows:
    """Histories of skewed lengths and items, some empty, some with an item twice."""
    random = np.random.default_rng(seed)
    share = 1 / np.arange(1, num_items + 1)
    lengths = np.minimum(random.geometric(0.2, num_customers) - 1, 30)
    return [random.choice(num_items, n, p=share / share.sum()).tolist() for n in lengths]


SHAPES = {
    "odd": (_drawn(37, 13), 13),
    "wide": (_drawn(11, 41, 1), 41),
    "one item each": ([[2], [0], [2]], 5),
    "all empty": ([[], []], 3),
    "no customers": ([], 4),
    "one item": ([[0], [0, 0]], 1),
    "skewed": ([list(range(30)), [], [29], [0] * 7], 30),
}


def _slow_weights(rows: Rows, num_items: int, half_life: float) -> np.ndarray:
    found = np.zeros((len(rows), num_items))
    for customer, row in enumerate(rows):
        for place, item in enumerate(row):  # the latest place wins
            found[customer, item] = 0.5 ** ((len(row) - 1 - place) / half_life)
    return found


def _customers_of(rows: Rows, num_items: int) -> np.ndarray:
    return np.array([max(1, sum(item in row for row in rows)) for item in range(num_items)], dtype=float)


def _slow_knn(rows: Rows, num_items: int, source: float, target: float, half_life: float) -> np.ndarray:
    x, n = _slow_weights(rows, num_items, half_life), _customers_of(rows, num_items)
    common = x.T @ x / np.outer(n**source, n**target)
    np.fill_diagonal(common, 0)
    return common


def _slow_transitions(rows: Rows, num_items: int, half_life: float, back: float, gap: int) -> np.ndarray:
    found, n = np.zeros((num_items, num_items)), _customers_of(rows, num_items)
    for row in rows:
        for one, other in product(range(len(row)), repeat=2):
            if 0 < other - one <= gap and row[one] != row[other]:
                weight = 0.5 ** ((other - one - 1) / half_life)
                found[row[one], row[other]] += weight
                found[row[other], row[one]] += back * weight
    return found / np.outer(n**0.5, n**0.2)


def _slow_ease(rows: Rows, num_items: int, strength: float, half_life: float) -> np.ndarray:
    x = _slow_weights(rows, num_items, half_life)
    inverse = np.linalg.inv(x.T @ x + strength * np.eye(num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def _slow_sparse_ease(rows: Rows, num_items: int, strength: float, half_life: float, most: int) -> np.ndarray:
    x = _slow_weights(rows, num_items, half_life)
    gramian, found = x.T @ x, np.zeros((num_items, num_items))
    for item in range(num_items):
        shrunk = gramian[item] / np.sqrt(np.diag(gramian) + strength)
        near = [i for i in np.argsort(-shrunk, kind="stable") if i != item and shrunk[i] > 0][:most]
        square = gramian[np.ix_(near, near)] + strength * np.eye(len(near))
        found[near, item] = np.linalg.solve(square, gramian[near, item])
    return found


def _models() -> dict[str, tuple[ItemToItem, object]]:
    """Each model with the reference of its item weights."""
    return {
        "knn": (
            ItemKNN(source_exponent=0.4, target_exponent=0.2, fit_half_life=3, half_life=1.5),
            lambda rows, n: _slow_knn(rows, n, 0.4, 0.2, 3),
        ),
        "transitions": (
            Transitions(gap_half_life=2, backward=0.3, max_gap=4, target_exponent=0.2, half_life=1.5),
            lambda rows, n: _slow_transitions(rows, n, 2, 0.3, 4),
        ),
        "forward transitions": (
            Transitions(gap_half_life=0.5, backward=0, max_gap=100, target_exponent=0.2, half_life=1.5),
            lambda rows, n: _slow_transitions(rows, n, 0.5, 0, 100),
        ),
        "EASE": (
            EASE(regularization=2.5, fit_half_life=4, half_life=1.5),
            lambda rows, n: _slow_ease(rows, n, 2.5, 4),
        ),
        "EASE on all neighbours": (
            EASE(regularization=2.5, num_neighbours=50, fit_half_life=4, half_life=1.5),
            lambda rows, n: _slow_sparse_ease(rows, n, 2.5, 4, 50),
        ),
        "EASE on three neighbours": (
            EASE(regularization=1.5, num_neighbours=3, half_life=1.5),
            lambda rows, n: _slow_sparse_ease(rows, n, 1.5, np.inf, 3),
        ),
    }


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(counts_module, "_BLOCK_CELLS", 100)
    monkeypatch.setattr(transitions_module, "_BLOCK_PAIRS", 60)
    monkeypatch.setattr(ease_module, "_COLUMNS", 4)
    monkeypatch.setattr(model_module, "_BLOCK_BYTES", 1000)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", _models())
def test_scores_are_those_of_the_reference(name, shape):
    (rows, num_items), (model, reference) = SHAPES[shape], _models()[name]
    expected = reference(rows, num_items)
    histories = Histories.of(rows, num_items)
    found = model.fit(histories).scores(histories)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, _slow_weights(rows, num_items, 1.5) @ expected, atol=2e-5)


def test_the_sparse_regression_is_the_full_one_where_all_items_meet():
    histories = Histories.of([*_drawn(37, 13), list(range(13))], 13)
    full = EASE(regularization=2.0).fit(histories).item_weights
    part = EASE(regularization=2.0, num_neighbours=12).fit(histories).item_weights
    np.testing.assert_allclose(part.toarray(), full, atol=1e-5)


def test_a_large_catalogue_is_never_squared(monkeypatch):
    monkeypatch.setattr(ease_module, "MOST_ITEMS_IN_FULL", 12)
    monkeypatch.setattr(ease_module, "_full", None)
    rows = _drawn(37, 13)
    found = EASE(regularization=2.0).fit(Histories.of(rows, 13)).item_weights
    assert found.nnz <= 13 * 12


@pytest.mark.parametrize("model", [ItemKNN(num_neighbours=2), Transitions(num_neighbours=2)])
def test_only_the_strongest_neighbours_stay(model):
    rows = _drawn(40, 12, seed=5)
    full = type(model)().fit(Histories.of(rows, 12)).item_weights.toarray()
    kept = model.fit(Histories.of(rows, 12)).item_weights.toarray()
    assert ((kept > 0).sum(axis=1) == np.minimum((full > 0).sum(axis=1), 2)).all()
    assert (kept[kept > 0] == full[kept > 0]).all()
    left = np.where(kept > 0, -np.inf, full).max(axis=1)
    weakest = np.where(kept > 0, kept, np.inf).min(axis=1)
    assert (left <= weakest).all()


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("exclude", [True, False])
@pytest.mark.parametrize("name", _models())
def test_the_best_items_come_first_and_ties_by_popularity(name, exclude):
    rows = _drawn(37, 13)
    histories = Histories.of(rows, 13)
    model = _models()[name][0].fit(histories)
    ids, values = model.recommend(histories, 13, exclude_history=exclude)
    popular = [sum(item in row for row in rows) for item in range(13)]
    for customer, (row, scores) in enumerate(zip(rows, model.scores(histories), strict=True)):
        left = [item for item in range(13) if not (exclude and item in row)]
        left.sort(key=lambda item: (-float(scores[item]), -popular[item], item))
        assert ids[customer].tolist() == left + [-1] * (13 - len(left))
        assert values[customer, : len(left)].tolist() == scores[left].tolist()
        assert np.isneginf(values[customer, len(left) :]).all()


@pytest.mark.usefixtures("_small_blocks")
def test_items_may_be_left_out_of_each_list_and_of_all():
    rows = _drawn(37, 13)
    model = ItemKNN().fit(Histories.of(rows, 13))
    banned = sparse.random(37, 13, 0.3, format="csr", random_state=0)
    ids, _ = model.recommend(
        Histories.of(rows, 13), 13, exclude_history=False, exclude=banned, exclude_items=np.array([2, 7])
    )
    for row, own in zip(ids, banned, strict=True):
        assert set(row[row >= 0]) == set(range(13)) - set(own.indices) - {2, 7}
    with pytest.raises(ValueError, match=r"exclude: shape \(37, 13\) must be \(36, 13\)"):
        model.recommend(Histories.of(rows[1:], 13), 3, exclude=banned)


def test_chosen_histories_keep_their_items_and_the_order_asked_for():
    found = Histories.of([[1, 2], [], [0], [2, 0, 1]], 3).chosen(np.array([3, 1, 0, 3]))
    assert found.indptr.tolist() == [0, 3, 3, 5, 8]
    assert found.items.tolist() == [2, 0, 1, 1, 2, 2, 0, 1]


def test_an_empty_history_and_one_of_unseen_items_get_the_most_popular():
    model = Transitions().fit(Histories.of([[0, 2], [2, 1], [2]], 5))
    ids, values = model.recommend(Histories.of([[], [4]], 5), 3)
    assert ids.tolist() == [[2, 0, 1], [2, 0, 1]]
    assert (values == 0).all()
    assert model.recommend(Histories.of([], 5), 3)[0].shape == (0, 3)


def test_a_faded_history_follows_its_latest_item():
    rows = [[0, 1]] * 5 + [[2, 3]] * 4
    model = ItemKNN(half_life=math.inf).fit(Histories.of(rows, 4))
    asked = Histories.of([[0, 2]], 4)
    assert model.recommend(asked, 1)[0].item() == 1
    model.half_life = 0.5
    assert model.recommend(asked, 1)[0].item() == 3


def test_histories_are_read_only_arrays_as_they_come():
    indptr, items = np.array([0, 2, 2, 3]), np.array([1, 0, 1], dtype=np.int32)
    for array in (indptr, items):
        array.flags.writeable = False
    ids, _ = ItemKNN().fit(Histories(indptr, items, 2)).recommend(Histories(indptr, items, 2), 2)
    assert ids.tolist() == [[-1, -1], [1, 0], [0, -1]]


@pytest.mark.parametrize(
    ("indptr", "items", "num_items", "error", "message"),
    [
        ([0, 1], [3], 3, ValueError, r"items: 3 at position 0 is not in 0\.\.2"),
        ([0, 2], [0, -1], 3, ValueError, "items: -1 at position 1"),
        ([0, 2, 1, 3], [0, 1, 2], 3, ValueError, "indptr: falls after position 1"),
        ([1, 2], [0, 1], 3, ValueError, "indptr: must begin with 0"),
        ([0, 1], [0, 1], 3, ValueError, "number of items, 2"),
        ([], [], 3, ValueError, "indptr: must begin with 0"),
        ([0], [], 0, ValueError, "num_items=0"),
        ([0, 1], [0.0], 3, TypeError, "items: must be an array of integers"),
        ([0, 1], [[0]], 3, TypeError, "items: must be an array of integers with one axis"),
    ],
)
def test_wrong_histories_are_refused(indptr, items, num_items, error, message):
    with pytest.raises(error, match=message):
        Histories(np.array(indptr), np.array(items), num_items)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ItemKNN(half_life=0), "half_life=0"),
        (lambda: ItemKNN(half_life=math.nan), "half_life=nan"),
        (lambda: ItemKNN(fit_half_life=-1), "fit_half_life=-1"),
        (lambda: ItemKNN(num_neighbours=0), "num_neighbours=0"),
        (lambda: ItemKNN(target_exponent=math.inf), "target_exponent=inf"),
        (lambda: Transitions(gap_half_life=0), "gap_half_life=0"),
        (lambda: Transitions(backward=-0.1), "backward=-0.1"),
        (lambda: Transitions(max_gap=0), "max_gap=0"),
        (lambda: EASE(regularization=0), "regularization=0"),
        (lambda: EASE(num_neighbours=0), "num_neighbours=0"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_questions_are_refused():
    model = ItemKNN().fit(Histories.of([[0, 1]], 2))
    with pytest.raises(ValueError, match="have 3 items, and the model was fitted to 2"):
        model.scores(Histories.of([[0]], 3))
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k={k}: must lie between 1 and the number of items, 2"):
            model.recommend(Histories.of([[0]], 2), k)


def test_what_has_faded_below_a_millionth_is_left_out():
    rows = [[0, 1], [2, 3]] * 3
    asked = Histories.of([[0, *[4] * 18, 2], [0, *[4] * 19, 2]], 5)
    scores = ItemKNN(half_life=1.0).fit(Histories.of(rows, 5)).scores(asked)
    assert scores[0, 1] == pytest.approx(2.0**-19 * scores[0, 3], rel=1e-5)
    assert scores[1, 1] == 0
