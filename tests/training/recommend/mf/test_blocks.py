"""A factorisation that does not fit ends by blocks where it would have ended in core, within its limit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from shopsight.kernels import dispatch
from shopsight.kernels.backend import Backend
from shopsight.kernels.cuda import runtime
from shopsight.kernels.errors import DivergenceError
from shopsight.training.recommend.mf import memory
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import ByBlocks, InCore
from shopsight.training.recommend.mf.fitting import run_epochs
from shopsight.training.recommend.mf.half_steps import BlockedSide, Fixed
from shopsight.training.recommend.mf.memory import GIB, BlockCosts, plan_memory
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.mf.objective import canonical
from tests.kernels.cuda_host.device import HostDevice

ROOT = Path(__file__).resolve().parents[4]
OBJECTIVES = ("observed", "confidence", "explicit")
CONFIG = MFConfig(num_factors=10, num_epochs=3, regularization=0.05, backend="cpu")


@pytest.fixture(scope="module")
def skewed():
    """Zipf-skewed ratings [300, 140]: empty users and items, a user with every item, an item of all users."""
    random = np.random.default_rng(3)
    users, items = (random.zipf(1.4, 9000) % n for n in (300, 140))
    ratings = sparse.lil_matrix((300, 140), dtype=np.float32)
    ratings[users, items] = random.integers(1, 6, 9000)
    ratings[7, :] = random.integers(1, 6, 140)
    ratings[:, 11] = random.integers(1, 6, 300)[:, None]
    ratings[[0, 50, 299], :] = 0
    ratings[:, [0, 80, 139]] = 0
    return canonical(ratings.tocsr())


def fitted(epochs, matrix, config, folder=None, validation=None):
    return run_epochs(epochs, matrix, config, validation, None, folder, lambda _: None)


def room_for(config, num_columns):
    return BlockCosts.of(config).need(20, 60, num_columns)


@pytest.mark.parametrize("home", ["memory", "disk"])
@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_blocks_end_where_the_whole_ends(skewed, tmp_path, objective, solver, home):
    config = replace(CONFIG, objective=objective, solver=solver, num_cg_steps=20)
    folder = tmp_path if home == "disk" else None
    blocks = ByBlocks(skewed, config, room_for(config, 60), folder)
    assert blocks._users.num_blocks > 3 and blocks._items.num_blocks > 3
    whole = fitted(InCore(skewed, config), skewed, config)
    found = fitted(blocks, skewed, config, folder)
    tolerance = 2e-5 if solver == "exact" else 2e-3
    for name in ("user_factors", "item_factors"):
        truth = getattr(whole, name).array()
        error = np.abs(getattr(found, name).array() - truth).max()
        assert error < tolerance * np.abs(truth).max(), name
    np.testing.assert_allclose(found.user_bias, whole.user_bias, atol=tolerance * 5)
    np.testing.assert_allclose(found.item_bias, whole.item_bias, atol=tolerance * 5)
    assert list(tmp_path.iterdir()) == []  # the files have no names: nothing is left, whatever happens


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_wider_than_the_room_is_summed_over_pieces(skewed, objective):
    config = replace(CONFIG, objective=objective)
    costs, longest = BlockCosts.of(config), int(np.diff(skewed.indptr).max())
    room = costs.need(1, longest, 16)
    assert costs.need(1, longest, longest) > room
    found = fitted(ByBlocks(skewed, config, room + costs.entry_bytes * 160, None), skewed, config)
    whole = fitted(InCore(skewed, config), skewed, config)
    truth = whole.item_factors.array()
    np.testing.assert_allclose(found.item_factors.array(), truth, atol=2e-5 * np.abs(truth).max())


def test_a_row_whose_interactions_find_no_room_is_named(skewed):
    with pytest.raises(MemoryError, match=r"user \d+ has 13\d interactions.*raise memory_limit_gib"):
        fitted(ByBlocks(skewed, CONFIG, 3000, None), skewed, CONFIG)


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_storage_by_blocks(skewed, tmp_path, storage):
    config = replace(CONFIG, storage=storage)
    whole = fitted(InCore(skewed, config), skewed, config)
    found = fitted(ByBlocks(skewed, config, room_for(config, 60), tmp_path), skewed, config, tmp_path)
    x, y = (part.array().astype(np.float32) for part in (found.user_factors, found.item_factors))
    a, b = (part.array().astype(np.float32) for part in (whole.user_factors, whole.item_factors))
    assert found.user_factors.dtype.name == storage
    np.testing.assert_allclose(x @ y.T, a @ b.T, atol=0.02 if storage == "float16" else 0.1)


def test_the_best_epoch_is_kept_while_blocks_are_written_over(skewed, tmp_path, monkeypatch):
    figures = [0.1, 0.5, 0.2, 0.3]
    config = replace(CONFIG, num_epochs=4, patience=9)

    def told(epochs, folder):
        left = iter(figures)
        monkeypatch.setattr(
            "shopsight.training.recommend.mf.fitting.validate", lambda *_: {"recall": 0.0, "ndcg": next(left)}
        )
        return fitted(epochs, skewed, config, folder, skewed)

    found = told(ByBlocks(skewed, config, room_for(config, 60), tmp_path), tmp_path)
    whole = fitted(InCore(skewed, config), skewed, replace(config, num_epochs=2))
    np.testing.assert_allclose(found.item_factors.array(), whole.item_factors.array(), atol=1e-4)
    assert [row["ndcg"] for row in found.history] == figures


def test_divergence_names_epoch_and_block(skewed):
    config = replace(CONFIG, objective="explicit", regularization=1e-30)
    huge = skewed.copy()
    huge.data[:] = 3e38
    for epochs in (InCore(huge, config), ByBlocks(huge, config, room_for(config, 60), None)):
        with pytest.raises(DivergenceError, match=r"epoch 1: .*regularization"):
            fitted(epochs, huge, config)


def test_a_block_that_cannot_be_solved_is_named(skewed):
    side = BlockedSide(skewed, CONFIG, room_for(CONFIG, 60), "user")
    broken = fitted(InCore(skewed, CONFIG), skewed, CONFIG)
    broken.item_factors.array()[20] = np.nan
    fixed = Fixed(broken.item_factors, broken.item_bias, 0.0, np.eye(10))
    with pytest.raises(ValueError, match=r"users \d+ to \d+, where row 0 is user \d+: .*must be finite"):
        side.solve(fixed, broken.user_factors)


@pytest.fixture
def small_constants(monkeypatch):
    monkeypatch.setattr(memory, "_SLABS_BYTES", 0)
    monkeypatch.setattr(memory, "_LEAST_COLUMNS", 64)


@pytest.mark.usefixtures("small_constants")
def test_fit_recommend_and_fold_in_obey_a_small_limit(skewed, tmp_path):
    plan = plan_memory(skewed.shape, skewed.nnz, CONFIG, Backend("cpu", "", 2, GIB))
    limited = replace(CONFIG, memory_limit_gib=(plan.in_core_bytes - 1000) / GIB)
    disk = replace(CONFIG, memory_limit_gib=0.0)
    lines: list[str] = []
    model = MatrixFactorization(limited).fit(skewed, checkpoint=tmp_path / "check", progress=lines.append)
    whole = MatrixFactorization(disk).fit(skewed)
    assert lines[0].startswith("memory plan: by blocks, since all at once would take 0.3 MiB of 0.3 MiB")
    assert "blocks of users" in lines[1]
    np.testing.assert_allclose(model.user_factors, whole.user_factors, atol=1e-4)
    np.testing.assert_allclose(model.fold_in(skewed[:40]), whole.user_factors[:40], atol=1e-4)
    for one, other in zip(model.recommend([5, 7], 8), whole.recommend([5, 7], 8), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.usefixtures("small_constants")
def test_the_least_limit_that_is_named_is_enough(skewed):
    tiny = replace(CONFIG, memory_limit_gib=1e-6)
    with pytest.raises(MemoryError, match=r"not even blocks fit; .*memory_limit_gib"):
        MatrixFactorization(tiny).fit(skewed)
    cpu = Backend("cpu", "", 2, None)
    plan = plan_memory(skewed.shape, skewed.nnz, tiny, cpu)
    enough = replace(CONFIG, memory_limit_gib=(plan.least_limit_bytes + 1) / GIB)
    assert plan_memory(skewed.shape, skewed.nnz, enough, cpu).fits
    MatrixFactorization(enough).fit(skewed)


def test_homes_follow_the_limits():
    shape, nnz = (4_000_000, 1_000_000), 100_000_000
    config = MFConfig(num_factors=128)

    def home(backend, limit):
        plan = plan_memory(shape, nnz, replace(config, memory_limit_gib=limit), backend)
        return plan.home if plan.fits else "nowhere"

    cpu = Backend("cpu", "", 2, 64 * GIB)
    assert [home(cpu, limit) for limit in (64, 12, 4, 1)] == ["device", "memory", "disk", "nowhere"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")
def test_a_gpu_that_is_too_small_gets_blocks_from_host_memory(skewed, monkeypatch):
    small = Backend("cuda", "a small GPU", 2, 120_000)
    monkeypatch.setattr(memory, "_CUDA_WORKSPACE_BYTES", 0)
    monkeypatch.setattr(memory, "_LEAST_COLUMNS", 64)
    plan = plan_memory(skewed.shape, skewed.nnz, CONFIG, small)
    assert plan.home == "memory" and plan.fits
    monkeypatch.setattr(runtime, "device", HostDevice)
    monkeypatch.setattr(dispatch, "resolve", lambda _: small)
    config = replace(CONFIG, num_epochs=2)
    blocks = ByBlocks(skewed, config, plan.room_bytes, None)
    assert blocks._users.num_blocks > 1
    found = fitted(blocks, skewed, config)
    whole = fitted(InCore(skewed, config), skewed, config)
    truth = whole.item_factors.array()
    np.testing.assert_allclose(found.item_factors.array(), truth, atol=1e-4 * np.abs(truth).max())


_MEASURE = """
import gc, json, sys
import numpy as np
from scipy import sparse
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization

def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return 1024 * int(line.split()[1])

limit, storage = float(sys.argv[1]), sys.argv[2]
random = np.random.default_rng(0)
users = (120_000 * random.random(300_000) ** 1.5).astype(int)
items = (60_000 * random.random(300_000) ** 4).astype(int)
matrix = sparse.csr_matrix((np.ones(300_000, np.float32), (users, items)), (120_000, 60_000))
def config(gib):
    return MFConfig(
        num_factors=64, num_epochs=1, storage=storage, backend="cpu", memory_limit_gib=gib, validation_k=5
    )
few = matrix[:400, :400].tocsr()
unseen = int(np.flatnonzero(few[[0]].toarray()[0] == 0)[0])
held = sparse.csr_matrix((np.ones(1, np.float32), ([0], [unseen])), few.shape)
MatrixFactorization(config(0)).fit(few, validation=held)
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
lines = []
model = MatrixFactorization(config(limit)).fit(matrix, progress=lines.append)
print(json.dumps({"taken": status("VmHWM") - before, "lines": lines,
                  "factors": model.user_factors.nbytes + model.item_factors.nbytes}))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to reset its peak memory")
def test_resident_memory_stays_within_the_limit():
    """Seen on two cores, 120k users, 60k items, 300k interactions, 64 factors (43.9 MiB of them in float32):

    limit           none   122.9 MiB   81.9 MiB   41.0 MiB   30.7 MiB   41.0 MiB, float16 (22 MiB)
    factors in      core   memory      files      files      files      files
    blocks          -      4 + 5       4 + 4      15 + 16    48 + 46    18 + 19
    taken at most   194.7  93.8        63.0       26.6       25.2       24.3
    """

    def measured(limit):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(limit), "float32"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    small, whole = measured(0.04), measured(0)
    assert "in files" in small["lines"][0] and "all in core" in whole["lines"][0]
    assert small["taken"] < 0.04 * GIB < small["factors"]
    assert whole["taken"] > 2 * small["taken"]
