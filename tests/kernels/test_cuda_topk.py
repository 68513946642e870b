"""The CUDA sources of top-k, run on the CPU, against float64 (tests/kernels/cuda_host/host_cuda.h)."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from shopsight.kernels.cuda import runtime, topk
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Kernel
from shopsight.kernels.reference.topk import topk as reference
from tests.kernels.cuda_host.device import HostDevice

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    def use(order: int = 0, shared_bytes: int = 227 * 1024) -> None:
        monkeypatch.setattr(runtime, "device", lambda: HostDevice(order, shared_bytes))

    use()
    return use


def make_case(num_users, num_items, num_factors, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    users = rng.standard_normal((num_users, num_factors)).astype(dtype)
    items = rng.standard_normal((num_items, num_factors)).astype(dtype)
    degrees = rng.integers(0, num_items + 1, num_users)
    degrees[0], degrees[-1] = num_items, 0
    seen = [np.sort(rng.choice(num_items, d, replace=False)) for d in degrees]
    indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    gone = rng.choice(num_items, num_items // 10, replace=False).astype(np.int32)
    return users, items, indptr, np.concatenate(seen).astype(np.int32), gone


def check(users, items, k, indptr=None, indices=None, gone=None):
    found, scores = topk.topk(users, items, k, indptr, indices, gone)
    truth, true_scores = reference(users, items, k, indptr, indices, gone)
    empty = np.isneginf(true_scores)
    assert found.dtype == np.int32 and scores.dtype == np.float32
    assert np.array_equal(np.isneginf(scores), empty) and (found[empty] == -1).all()
    np.testing.assert_allclose(scores[~empty], true_scores[~empty], rtol=1e-5, atol=1e-4)
    differs = found != truth  # only where float32 cannot tell the two scores apart
    assert (np.abs(scores - true_scores)[differs & ~empty] < 1e-4).all() and differs.mean() < 0.01
    for row in found:
        assert len(set(row[row >= 0])) == (row >= 0).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("num_factors", [1, 8, 50, 64, 100, 128, 256])
def test_every_number_of_factors(num_factors, dtype):
    users, items, indptr, indices, gone = make_case(67, 200, num_factors, dtype)
    check(users, items, 13, indptr, indices, gone)


@pytest.mark.parametrize(
    ("num_users", "num_items", "k"), [(1, 1, 1), (2, 65, 65), (64, 64, 40), (3, 4200, 33)]
)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_odd_shapes_in_every_order(num_users, num_items, k, order, on_host):
    on_host(order)
    users, items, indptr, indices, gone = make_case(num_users, num_items, 50)
    check(users, items, k, indptr, indices, gone)
    check(users, items, k)
    check(users, items, k, None, None, gone)


def test_equal_scores_come_by_index():
    users, items = np.ones((3, 8), np.float32), np.ones((2100, 8), np.float32)
    found, _ = topk.topk(users, items, 5)
    assert (found == np.arange(5)).all()


def test_every_item_gone_leaves_nothing():
    users, items, *_ = make_case(3, 70, 8)
    found, scores = topk.topk(users, items, 4, None, None, np.arange(70, dtype=np.int32))
    assert (found == -1).all() and np.isneginf(scores).all()


def test_scores_below_zero_are_ranked_too():
    users, items, *_ = make_case(5, 300, 8)
    check(-np.abs(users), np.abs(items), 7)


@pytest.mark.parametrize(
    ("k", "shared_bytes", "block"), [(20, 232448, 64), (400, 232448, 32), (900, 232448, None)]
)
def test_a_large_k_takes_fewer_users_a_block_and_then_sorts(k, shared_bytes, block, on_host):
    on_host(0, shared_bytes)
    users, items, indptr, indices, gone = make_case(4, 1000, 128)
    assert topk.tile_users(HostDevice(0, shared_bytes), Layout.of(users), k) == block
    check(users, items, k, indptr, indices, gone)


def test_wide_sorting_goes_by_blocks_of_users(monkeypatch):
    monkeypatch.setattr(topk, "_WIDE_SCORES", 2500)
    users, items, indptr, indices, gone = make_case(7, 1000, 128)
    check(users, items, 900, indptr, indices, gone)


def test_no_user_at_all():
    found, scores = topk.topk(np.empty((0, 8), np.float32), np.ones((5, 8), np.float32), 2)
    assert found.shape == scores.shape == (0, 2)


@pytest.mark.parametrize(("shares", "k"), [(1, 1), (31, 10), (32, 33), (70, 10), (97, 64)])
@pytest.mark.parametrize("order", [0, 2])
def test_lists_of_many_shares_are_merged(shares, k, order):
    """Lists that are short, empty, or hold all of the best; scores that are equal go by the lower item."""
    random = np.random.default_rng(shares)
    users = 5
    scores = random.integers(-40, 40, (shares, users, k)).astype(np.float32)
    scores[0, 1] += 1000
    bits = scores.view(np.uint32)
    ordered = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31)).astype(np.uint64)
    item = np.broadcast_to(np.arange(shares * k, dtype=np.uint64).reshape(shares, 1, k), scores.shape)
    keys = ordered << np.uint64(32) | (np.uint64(0xFFFFFFFF) - item)
    keys[random.random(keys.shape) < 0.2] = 0
    keys[:, 3] = 0
    keys = -np.sort(-keys.astype(object), axis=2)
    candidates = np.ascontiguousarray(keys.astype(np.uint64))
    items, found = np.empty((users, k), np.int32), np.empty((users, k), np.float32)
    launch = topk.scan_launch(Layout(8, "float32"), 32, k)
    merge = Kernel("topk.cu", "topk_merge", launch.kernel.defines)
    sizes = (np.int32(users), np.int32(shares), np.int32(k))
    HostDevice(order, watch_races=True).launch(
        merge, (users, 1), 32, 8 * k, (candidates, *sizes, items, found)
    )
    best = -np.sort(-candidates.transpose(1, 0, 2).reshape(users, -1).astype(object), axis=1)[:, :k]
    truth = np.where(
        best == 0, -1, 0xFFFFFFFF - (best.astype(np.uint64) & np.uint64(0xFFFFFFFF)).astype(object)
    )
    np.testing.assert_array_equal(items, truth.astype(np.int32))
    assert np.isneginf(found[items < 0]).all() and (found[:, 1:] <= found[:, :-1]).all()
