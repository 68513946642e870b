"""Factors on disk: stores against plain arrays, and safetensors that the library reads and writes too."""

from __future__ import annotations

import errno
import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import sparse

from shopsight.training.artifacts import factor_store
from shopsight.training.artifacts.factor_store import InFile, InMemory, gramian_of, slabs
from shopsight.training.artifacts.tensor_file import read_tensors, sha256_of_file, write_tensors
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def matrix(num_rows, num_factors, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal((num_rows, num_factors)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_reads_takes_and_writes_like_an_array(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(factor_store, "SLAB_BYTES", 700)
    monkeypatch.setattr(factor_store, "_GAP_BYTES", 90)
    truth = matrix(301, 7, dtype)
    store = InFile.scratch(truth.shape, truth.dtype, tmp_path)
    assert list(tmp_path.iterdir()) == []
    for begin in range(0, 301, 40):
        store.write(begin, truth[begin : begin + 40])
    store.write(11, truth[200:203])
    truth[11:14] = truth[200:203]
    np.testing.assert_array_equal(store.read(5, 29), truth[5:29])
    random = np.random.default_rng(1)
    for count in (0, 1, 5, 150, 301):
        rows = np.sort(random.choice(301, count, replace=False))
        np.testing.assert_array_equal(store.take(rows), truth[rows])
    np.testing.assert_array_equal(np.vstack([block for _, block in slabs(store)]), truth)
    expected = truth.astype(np.float64).T @ truth.astype(np.float64)
    np.testing.assert_allclose(gramian_of(store), expected, rtol=1e-5, atol=1e-4)
    mapped = store.array()
    np.testing.assert_array_equal(mapped, truth)
    mapped[:] = 0
    np.testing.assert_array_equal(store.read(0, 301), truth)  # what is done to the map stays out of the file


def test_an_array_can_be_larger_than_all_memory(tmp_path):
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    path, num_rows = tmp_path / "sparse", 2 * memory_bytes // 1024
    with path.open("wb") as file:
        file.truncate(1024 * num_rows)  # holes take no room on the disk
    store = InFile(os.open(path, os.O_RDONLY), 0, (num_rows, 256), np.dtype(np.float32))
    mapped = store.array()
    mapped[num_rows - 2] = 3
    assert mapped[num_rows - 3 :].sum() == 3 * 256 and not store.take(np.array([0, num_rows - 2])).any()


def test_an_array_outlives_its_store(tmp_path):
    truth = matrix(50, 4, np.float32)
    store = InFile.scratch(truth.shape, truth.dtype, tmp_path)
    store.write(0, truth)
    mapped = store.array()
    del store
    np.testing.assert_array_equal(mapped, truth)


def test_a_full_disk_is_told_before_the_fit_with_the_remedy(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=rf"{tmp_path}: no room for 0.00 GiB .*TMPDIR") as caught:
        InFile.scratch((10, 10), np.dtype(np.float32), tmp_path)
    assert caught.value.errno == errno.ENOSPC


def test_the_library_reads_what_we_write_and_we_read_what_it_writes(tmp_path):
    tensors = {
        "narrow": matrix(5, 3, ml_dtypes.bfloat16),
        "half": matrix(4, 3, np.float16),
        "x": matrix(3, 3, np.float32),
        "indptr": np.arange(7),
        "indices": np.arange(3, dtype=np.int32),
        "empty": np.empty((0, 5), np.float32),
    }
    digest = write_tensors(tmp_path / "ours", tensors | {"x": InMemory(tensors["x"])})
    assert digest == sha256_of_file(tmp_path / "ours")
    save_file(tensors, tmp_path / "theirs", metadata={"of": "a test"})
    read = [load_file(tmp_path / "ours")]
    read += [{n: t.array() for n, t in read_tensors(tmp_path / who).items()} for who in ("ours", "theirs")]
    for found in read:
        assert set(found) == set(tensors)
        for name, values in tensors.items():
            assert found[name].dtype == values.dtype and found[name].flags.aligned
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("damage", ["cut", "header", "offsets", "empty"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": matrix(9, 2, np.float32)})
    good = path.read_bytes()
    header = {"x": {"dtype": "F32", "shape": [10, 2], "data_offsets": [0, 72]}}
    text = json.dumps(header).encode()
    broken = {
        "cut": good[:-3],
        "header": good[:8] + b"}" + good[9:],
        "offsets": len(text).to_bytes(8, "little") + text + b"\0" * 72,
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(ValueError, match=r"x.safetensors: not a safetensors file"):
        read_tensors(path)


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_a_factorisation_of_any_storage_is_loaded_as_it_was_saved(tmp_path, storage):
    user_items = sparse.random(60, 40, 0.2, format="csr", dtype=np.float32, random_state=0)
    config = MFConfig(num_factors=6, num_epochs=2, storage=storage, backend="cpu")
    model = MatrixFactorization(config).fit(user_items)
    model.save(tmp_path)
    loaded = MatrixFactorization.load(tmp_path)
    assert loaded.item_factors.dtype.name == storage and loaded.config == config
    np.testing.assert_array_equal(loaded.user_factors, model.user_factors)
    np.testing.assert_array_equal(loaded.item_factors, model.item_factors)
    for one, other in zip(loaded.recommend([0, 3], 5), model.recommend([0, 3], 5), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_checkpoint_is_not_taken_for_a_saved_factorisation(tmp_path):
    user_items = sparse.random(30, 20, 0.2, format="csr", dtype=np.float32, random_state=0)
    config = MFConfig(num_factors=4, num_epochs=1, backend="cpu")
    MatrixFactorization(config).fit(user_items, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}: holds no saved factorisation"):
        MatrixFactorization.load(tmp_path)
