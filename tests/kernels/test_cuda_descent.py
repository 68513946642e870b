"""The CUDA sources of SGD and BPR, run on the CPU, against float64 (tests/kernels/cuda_host/host_cuda.h).

The harness takes warps in order, and a row of more than 64 factors has a warp of its own: a pass then is the
textbook loop over runs, and is compared with it step for step. Rows that share a warp are compared on data
where they do not meet.
"""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest

from shopsight.kernels.cuda import runs, runtime
from shopsight.kernels.cuda.bpr import BprTraining
from shopsight.kernels.cuda.sgd import SgdTraining
from tests.kernels.cuda_host.device import HostDevice

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")


@pytest.fixture(autouse=True)
def on_host(monkeypatch):
    monkeypatch.setattr(runtime, "device", HostDevice)


def philox(seed: int, draw: int) -> list[int]:
    """Philox 4x32-10, its published constants."""
    mask = 0xFFFFFFFF
    c, key = [draw & mask, draw >> 32, 0, 0], [seed & mask, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ key[0], b & mask, (a >> 32) ^ c[3] ^ key[1], a & mask]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return c


def test_philox_is_the_published_one():
    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def make_data(degrees, num_items, num_factors, dtype=np.float32, disjoint=False, seed=0):
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int64)
    if disjoint:
        items = rng.permutation(num_items)[: indptr[-1]]
        items = np.concatenate([np.sort(items[a:b]) for a, b in itertools.pairwise(indptr)])
    else:
        items = np.concatenate([np.sort(rng.choice(num_items, d, replace=False)) for d in degrees])
    users = (rng.standard_normal((len(degrees), num_factors)) * 0.3).astype(dtype)
    others = (rng.standard_normal((num_items, num_factors)) * 0.3).astype(dtype)
    return indptr, items.astype(np.int32), users, others


def runs_in_order(indptr, random):
    """User, begin and end of each run, as a pass takes them."""
    loaded = runs.load_runs(HostDevice(), indptr)
    count, stride, offset = (int(x) for x in runs.draw_order(len(loaded), random))
    for index in range(count):
        run = (index * stride + offset) % count
        yield loaded.user[run], loaded.begin[run], loaded.begin[run] + loaded.count[run]


class SplitUsers:
    """Runs of one user all begin at the user's row, which then becomes the mean of where they end."""

    def __init__(self, *arrays):
        self._arrays, self._start = arrays, [array.copy() for array in arrays]
        self._ends = {}

    def begin(self, user):
        for array, start in zip(self._arrays, self._start, strict=True):
            array[user] = start[user]

    def end(self, user):
        self._ends.setdefault(user, []).append([np.copy(array[user]) for array in self._arrays])

    def merge(self):
        for user, ends in self._ends.items():
            for array, *parts in zip(self._arrays, *ends, strict=True):
                array[user] = np.mean(parts, axis=0)


def sgd_reference(data, ratings, biases, mean, rates, random):
    indptr, items, users, others = data
    x, y = users.astype(np.float64), others.astype(np.float64)
    bu, bi = (b.astype(np.float64) for b in biases)
    rate, reg, bias_rate, bias_reg = rates
    total = 0.0
    split = SplitUsers(x, bu)
    for user, begin, end in runs_in_order(indptr, random):
        split.begin(user)
        for at in range(begin, end):
            item = items[at]
            error = ratings[at] - (mean + bu[user] + bi[item] + x[user] @ y[item])
            old = x[user].copy()
            x[user] += rate * (error * y[item] - reg * x[user])
            y[item] += rate * (error * old - reg * y[item])
            bu[user], bi[item] = (
                bu[user] + bias_rate * (error - bias_reg * bu[user]),
                bi[item] + bias_rate * (error - bias_reg * bi[item]),
            )
            total += error**2
        split.end(user)
    split.merge()
    return x, y, bu, bi, total


@pytest.mark.parametrize(
    ("num_factors", "disjoint"),
    [(1, True), (8, True), (50, True), (64, True), (72, False), (100, False), (128, False), (256, False)],
)
@pytest.mark.parametrize("longest", [64, 512])
def test_a_pass_of_sgd_is_the_textbook_loop(num_factors, disjoint, longest, monkeypatch):
    monkeypatch.setattr(runs, "LONGEST", longest)
    degrees = [3, 0, 70, 1, 130, 7, 20]
    data = make_data(degrees, 250, num_factors, disjoint=disjoint)
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 6, len(data[1])).astype(np.float32)
    biases = (rng.standard_normal(7).astype(np.float32), rng.standard_normal(250).astype(np.float32))
    rates = (0.02, 0.05, 0.01, 0.03)
    training = SgdTraining(data[0], data[1], ratings, data[2], data[3], *biases, 3.0)
    training.run_pass(*rates, 5, 2)
    *truth, total = sgd_reference(data, ratings, biases, 3.0, rates, np.random.default_rng([5, 2]))
    for found, true in zip(training.result(), truth, strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-4, atol=2e-5)
    assert training.squared_error() == pytest.approx(total, rel=1e-4)


def bpr_reference(data, rate, reg, seed, first_draw, random):
    indptr, items, users, others = data
    x, y = users.astype(np.float64), others.astype(np.float64)
    correct = 0
    split = SplitUsers(x)
    for user, begin, end in runs_in_order(indptr, random):
        split.begin(user)
        seen = items[indptr[user] : indptr[user + 1]]
        unseen = np.setdiff1d(np.arange(len(y)), seen)
        for at in range(begin, end):
            if not len(unseen):
                continue
            liked, other = items[at], unseen[philox(seed, first_draw + at)[0] * len(unseen) >> 32]
            difference = y[liked] - y[other]
            margin = x[user] @ difference
            step, old = rate / (1 + np.exp(margin)), x[user].copy()
            keep = 1 - rate * reg
            x[user] = keep * x[user] + step * difference
            y[liked] = keep * y[liked] + step * old
            y[other] = keep * y[other] - step * old
            correct += margin > 0
        split.end(user)
    split.merge()
    return x, y, correct


@pytest.mark.parametrize(
    ("num_factors", "degrees"),
    [(1, [9]), (8, [50]), (50, [64]), (64, [33]), *((f, [3, 0, 70, 90, 1, 65]) for f in (72, 100, 128, 256))],
)
@pytest.mark.parametrize("longest", [64, 512])
def test_a_pass_of_bpr_is_the_textbook_loop(num_factors, degrees, longest, monkeypatch):
    """The user of 90 items has seen every one."""
    monkeypatch.setattr(runs, "LONGEST", longest)
    data = make_data(degrees, 90, num_factors)
    training = BprTraining(*data)
    training.run_pass(0.05, 0.01, 77, 3)
    *truth, correct = bpr_reference(data, 0.05, 0.01, 77, 3 * len(data[1]), np.random.default_rng([77, 3]))
    for found, true in zip(training.result(), truth, strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-5)
    assert training.num_correct() == correct


@pytest.mark.parametrize("num_factors", [8, 128])
def test_half_precision_follows_on_average(num_factors):
    """Steps below half a unit of float16 would be lost by rounding to the nearest."""
    data = make_data([64] * 6, 500, num_factors, np.float16, disjoint=True)
    ratings = np.full(len(data[1]), 4.0, np.float32)
    biases = (np.zeros(6, np.float32), np.zeros(500, np.float32))
    rates = (0.0002, 0.0, 0.0, 0.0)
    training = SgdTraining(data[0], data[1], ratings, data[2], data[3], *biases, 0.0)
    exact = (data[2].astype(np.float64), data[3].astype(np.float64))
    for epoch in range(10):
        training.run_pass(*rates, 3, epoch)
        random = np.random.default_rng([3, epoch])
        exact = sgd_reference((*data[:2], *exact), ratings, biases, 0.0, rates, random)[:2]
    moved = exact[1][data[1]] - data[3][data[1]].astype(np.float64)
    found = training.result()[1][data[1]].astype(np.float64) - data[3][data[1]].astype(np.float64)
    assert (found * moved).sum() / (moved * moved).sum() == pytest.approx(1.0, abs=0.1)


def test_an_epoch_takes_every_run_once():
    for num_runs in (1, 2, 6, 97, 256):
        count, stride, offset = (int(x) for x in runs.draw_order(num_runs, np.random.default_rng(num_runs)))
        assert sorted((i * stride + offset) % count for i in range(count)) == list(range(num_runs))


def test_runs_cover_each_interaction_once():
    indptr = np.array([0, 0, 1, 513, 513, 2000], np.int64)
    loaded = runs.load_runs(HostDevice(), indptr)
    taken = np.concatenate([np.arange(b, b + c) for b, c in zip(loaded.begin, loaded.count, strict=True)])
    assert np.array_equal(taken, np.arange(2000)) and loaded.count.max() <= runs.LONGEST
    assert all(indptr[u] <= b < indptr[u + 1] for u, b in zip(loaded.user, loaded.begin, strict=True))
    assert loaded.part.tolist() == [-1, -1, 0, 1, 2] and loaded.num_parts == 3
    assert loaded.split_users.tolist() == [4] and loaded.first_part.tolist() == [0, 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_no_run_of_a_user_of_many_interactions_is_lost(dtype, monkeypatch):
    """Nobody shares an item, so every order of the threads gives the same; each run has its part in it."""
    monkeypatch.setattr(runs, "LONGEST", 64)
    data = make_data([300], 300, 16, dtype, disjoint=True)
    ratings = np.full(300, 4.0, np.float32)
    biases = (np.zeros(1, np.float32), np.zeros(300, np.float32))
    found = []
    for order in (0, 1, 2):
        monkeypatch.setattr(runtime, "device", lambda order=order: HostDevice(order, watch_races=True))
        training = SgdTraining(data[0], data[1], ratings, data[2], data[3], *biases, 0.0)
        training.run_pass(0.01, 0.0, 0.01, 0.0, 3, 0)
        found.append(training.result())
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
    rates = (0.01, 0.0, 0.01, 0.0)
    truth = sgd_reference(data, ratings, biases, 0.0, rates, np.random.default_rng([3, 0]))
    np.testing.assert_allclose(found[0][0], truth[0], rtol=0.01 if dtype is np.float16 else 1e-4, atol=1e-3)
    np.testing.assert_allclose(found[0][2], truth[2], rtol=1e-3)
