"""Rows cut into blocks, against the obvious way of counting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopsight.kernels.blocks import cut_rows
from tests.kernels.parity import Shape, make_csr

COSTS = {"row_bytes": 3, "entry_bytes": 2, "column_bytes": 5}


def need(indptr, indices, begin, end):
    inside = indices[indptr[begin] : indptr[end]]
    return 3 * (end - begin) + 2 * len(inside) + 5 * len(np.unique(inside))


@settings(deadline=None, max_examples=60)
@given(
    degrees=st.lists(st.integers(0, 25), max_size=30),
    room=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_cover_all_rows_fit_the_room_and_could_not_be_longer(degrees, room, seed):
    indptr, indices = make_csr(Shape("any", tuple(degrees) or (0,), 25), np.random.default_rng(seed))
    edges = cut_rows(indptr, indices, 25, room_bytes=room, **COSTS)
    num_rows = len(indptr) - 1
    assert edges[0] == 0 and edges[-1] == num_rows and (np.diff(edges) > 0).all()
    for begin, end in pairwise(edges):
        assert need(indptr, indices, begin, end) <= room or end == begin + 1
        if end < num_rows:
            assert need(indptr, indices, begin, end + 1) > room


def test_no_row_makes_no_block():
    edges = cut_rows(np.zeros(1, np.int64), np.empty(0, np.int32), 4, room_bytes=10, **COSTS)
    assert edges.tolist() == [0]


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"rows.indices: 4 lies outside 0..3"):
        cut_rows(np.array([0, 1]), np.array([4], np.int32), 4, room_bytes=10, **COSTS)
