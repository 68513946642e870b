"""When an answer counts as the golden one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shopsight.serving.contract import GoldenTensor
from shopsight.serving.golden import as_long_as, difference, to_array

SCORE = GoldenTensor("SCORE", "FP32", (1, 3), [[0.5, float("-inf"), float("nan")]])


def test_scores_may_differ_within_the_tolerance_alone() -> None:
    close = np.array([[0.500009, -np.inf, np.nan]], dtype=np.float32)
    assert difference(SCORE, close, 1e-5) is None
    far = np.array([[0.50002, -np.inf, np.nan]], dtype=np.float32)
    assert "SCORE[0, 0]" in str(difference(SCORE, far, 1e-5))
    assert "SCORE[0, 1]" in str(difference(SCORE, np.array([[0.5, -9e9, np.nan]], dtype=np.float32), 1e-5))
    assert "SCORE[0, 2]" in str(difference(SCORE, np.array([[0.5, -np.inf, 0]], dtype=np.float32), 1e-5))


def test_shapes_integers_and_strings_must_be_equal() -> None:
    assert "shape (1, 2)" in str(difference(SCORE, np.zeros((1, 2), dtype=np.float32), 1.0))
    index = GoldenTensor("ITEM_INDEX", "INT64", (2,), [4, 5])
    assert difference(index, np.array([4, 5]), 10.0) is None
    assert "ITEM_INDEX[1] is np.int64(6)" in str(difference(index, np.array([4, 6]), 10.0))
    ids = GoldenTensor("ITEM_ID", "BYTES", (1, 2), [["a", "物"]])
    assert difference(ids, np.array([[b"a", "物".encode()]], dtype=np.object_), 0.0) is None
    assert "expected b'a'" in str(difference(ids, np.array([[b"b", "物".encode()]], dtype=np.object_), 0.0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"release": "9", "request_id": "other"}, None),
        ({"score": [0.100001]}, None),
        ({"score": [0.2]}, "INSIGHT.score[0] is 0.2, expected 0.1"),
        ({"score": []}, "INSIGHT.score is [], expected [0.1]"),
        ({"item": "b"}, "INSIGHT.item is 'b', expected 'a'"),
        ({"more": 1}, "INSIGHT is"),
    ],
)
def test_the_json_of_insight_is_compared_value_by_value(change: dict[str, object], says: str | None) -> None:
    told = {"release": "1", "request_id": "x", "item": "a", "score": [0.1]}
    golden = GoldenTensor("INSIGHT", "BYTES", (1, 1), [[json.dumps(told)]])
    found = np.array([[json.dumps({**told, **change}).encode()]], dtype=np.object_)
    problem = difference(golden, found, 1e-5)
    assert problem is None if says is None else says in str(problem)


def test_flat_and_nested_data_give_the_same_array() -> None:
    nested = GoldenTensor("X", "INT32", (2, 2), [[1, 2], [3, 4]])
    flat = GoldenTensor("X", "INT32", (2, 2), [1, 2, 3, 4])
    np.testing.assert_array_equal(to_array(nested), to_array(flat))
    assert to_array(nested).dtype == np.int32
    assert to_array(GoldenTensor("P", "BOOL", (1, 1), [[True]])).tolist() == [[True]]


def test_a_members_list_may_go_on_beyond_what_was_asked_but_not_end_before() -> None:
    index = GoldenTensor("ITEM_INDEX", "INT64", (1, 3), [[4, 5, 6]])
    joined = np.array([[4, 5, 6, 7, 8]])
    assert difference(index, as_long_as(index, joined), 0.0) is None
    assert "ITEM_INDEX[0, 2]" in str(difference(index, as_long_as(index, np.array([[4, 5, 7, 6]])), 0.0))
    assert "shape (1, 2)" in str(difference(index, as_long_as(index, joined[:, :2]), 0.0))
