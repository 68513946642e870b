"""The protocol of the next item: what is learned, asked and held out, and that a search sees no test item."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from benchmarks.quality_sequence import figures, rows_of, search
from benchmarks.sequence_methods import ByFactors, Method, Popular, methods
from benchmarks.sequence_sets import (
    Published,
    Question,
    SequenceSet,
    _history_lines,
    _pair_lines,
    final_as_published,
    final_refitted,
    histories_of,
    sampled,
    validation,
)
from shopsight.training.recommend.neighbours import Histories

ROWS = [[0, 1, 2, 3], [4, 5], [1], [], [3, 2, 1]]


def _rows(histories: Histories) -> list[list[int]]:
    return [
        histories.items[begin:end].tolist()
        for begin, end in zip(histories.indptr[:-1], histories.indptr[1:], strict=True)
    ]


def _held(question: Question) -> list[list[int]]:
    return [row.nonzero()[0].tolist() for row in question.held_out.toarray()]


@pytest.mark.parametrize(
    ("cut", "learned", "asked", "held_out"),
    [
        (validation, [[0, 1], [], [], [], [3]], [[0, 1], [], [], [], [3]], [[2], [4], [], [], [2]]),
        (
            final_as_published,
            [[0, 1], [], [], [], [3]],
            [[0, 1, 2], [4], [], [], [3, 2]],
            [[3], [5], [1], [], [1]],
        ),
        (
            final_refitted,
            [[0, 1, 2], [4], [], [], [3, 2]],
            [[0, 1, 2], [4], [], [], [3, 2]],
            [[3], [5], [1], [], [1]],
        ),
    ],
)
def test_each_cut_knows_only_what_is_before_it(cut, learned, asked, held_out):
    question = cut(Histories.of(ROWS, 6))
    assert _rows(question.learned) == learned
    assert _rows(question.asked) == asked
    assert _held(question) == held_out


def test_a_sample_asks_some_customers_and_learns_from_all():
    question = validation(Histories.of(ROWS * 20, 6))
    some = sampled(question, 30)
    assert some.learned is question.learned
    assert sampled(question, 100) is question
    pairs = list(zip(map(tuple, _rows(question.asked)), map(tuple, _held(question)), strict=True))
    drawn = list(zip(map(tuple, _rows(some.asked)), map(tuple, _held(some)), strict=True))
    assert len(drawn) == 30
    assert set(drawn) <= set(pairs)


def test_both_layouts_of_files_are_the_same_histories():
    by_pair = histories_of(_pair_lines(iter(["7 30", "9 30", "7 10", "9 20"])))
    by_line = histories_of(_history_lines(iter(["7 30 10", "9 30 20"])))
    assert _rows(by_pair) == _rows(by_line) == [[0, 1], [0, 2]]
    assert by_line.num_items == 3


def test_figures_are_per_customer_with_a_held_out_item():
    class Fixed:
        def lists(self, *_):
            return np.array([[9, 3, -1], [5, 9, 9], [9, 9, 1], [0, 0, 0], [2, 2, 9]])

    found = figures(Fixed(), final_refitted(Histories.of(ROWS, 10)), {})
    np.testing.assert_array_equal(found[0], [1, 1, 1, 0])
    np.testing.assert_allclose(found[1], [1 / np.log2(3), 1, 0.5, 0])


def test_popularity_leaves_the_history_out():
    popular = Popular(Histories.of([[0, 1], [0, 1], [0, 2]], 4))
    assert popular.lists(Histories.of([[], [0], [1, 0, 3]], 4), 2).tolist() == [[0, 1], [1, 2], [2, -1]]


def test_a_search_keeps_the_best_of_fit_and_question_and_sees_no_later_item():
    class Guess:
        def __init__(self, learned, first):
            assert max(map(len, _rows(learned))) == 2  # of four items the last two are not there
            self.first = first

        def lists(self, asked, _, second):
            return np.array([[self.first, second]] * len(asked))

    method = Method("guess", Guess, {"first": 8}, {"first": (8, 2, 9)}, {"second": (9, 4)})
    found = search(method, validation(Histories.of(ROWS, 10)), Console(quiet=True))
    assert (found.fitted, found.asked, found.num_fits) == ({"first": 2}, {"second": 4}, 3)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_method_takes_the_values_of_its_search(method):
    histories = Histories.of([(start + np.arange(6)) % 12 for start in range(12)], 12)
    question = validation(histories)
    values = method.start | ({"num_factors": 4, "num_epochs": 1} if "num_factors" in method.start else {})
    assert method.knobs.keys() <= method.start.keys()
    fitted = method.fitted(question.learned, values)
    for asked in list(method.questions())[-2:]:
        lists = fitted.lists(question.asked, 3, **asked)
        for row, history in zip(lists.tolist(), _rows(question.asked), strict=True):
            assert len(set(row) - set(history)) == 3


def test_folded_histories_answer_as_fitted_ones_and_by_their_order():
    histories = Histories.of([[0, 1, 2]] * 6 + [[3, 4, 5]] * 6, 6)
    model = ByFactors(
        histories, seed=0, half_life_learned=np.inf, degree_exponent=0.0, num_factors=2, regularization=0.1
    )
    asked = Histories.of([[0, 3], [3, 0]], 6)
    found = model.lists(asked, 2, half_life=0.5, popularity_exponent=0.0)
    assert set(found[0].tolist()) == {4, 5}
    assert set(found[1].tolist()) == {1, 2}


def test_rows_say_what_was_measured(monkeypatch):
    chosen = SequenceSet("tiny", ("tiny", "x"), _pair_lines, {"peer": Published(0.5, 0.25, "somewhere")})
    monkeypatch.setattr(SequenceSet, "sha256", lambda _: {"tiny/x": "0"})
    rows = rows_of(chosen, Histories.of(ROWS, 20), methods()[0], Console(quiet=True))
    assert len(rows) == 4
    assert {row["metric"] for row in rows} == {"hr_at_10", "ndcg_at_10"}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
        assert row["details"]["low"] <= row["ours"] <= row["details"]["high"]
        assert row["published"] == row["theirs"] == (0.5 if row["metric"] == "hr_at_10" else 0.25)
        assert row["seeds"] == []
