"""The one place that chooses a backend."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shopsight.kernels import backend


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(backend, "cuda_obstacle", lambda: "there is no GPU in this test")
    monkeypatch.delenv(backend.BACKEND_VARIABLE, raising=False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_where_there_is_no_gpu():
    assert backend.resolve().name == "cpu"
    assert backend.polars_engine() == "streaming"
    assert backend.estimators().library == "scikit-learn"


@pytest.mark.usefixtures("no_gpu")
def test_a_request_that_cannot_be_met_raises_with_the_reason():
    with pytest.raises(backend.BackendUnavailable, match="no GPU in this test"):
        backend.resolve("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_the_variable_is_a_request_too(monkeypatch):
    monkeypatch.setenv(backend.BACKEND_VARIABLE, "cuda")
    with pytest.raises(backend.BackendUnavailable):
        backend.resolve()
    assert backend.resolve("cpu").name == "cpu"
    monkeypatch.setenv(backend.BACKEND_VARIABLE, "tpu")
    with pytest.raises(ValueError, match="SHOPSIGHT_BACKEND='tpu'"):
        backend.resolve()


def test_omp_num_threads_lowers_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert backend.resolve("cpu").num_threads == 1


def test_importing_every_kernel_loads_neither_cupy_nor_torch():
    code = (
        "import sys; from shopsight.kernels import als, backend, bpr, fold_in, sgd, topk;"
        "print([m for m in ('cupy', 'cuml', 'torch', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_reference_of_fold_in_needs_numpy_alone():
    code = (
        "import sys; before = set(sys.modules); import shopsight.kernels.reference.fold_in;"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy', 'shopsight']"


def test_a_container_is_held_to_its_own_memory(tmp_path, monkeypatch):
    told, unlimited = tmp_path / "memory.max", tmp_path / "unlimited"
    told.write_text("123456789\n")
    unlimited.write_text("max\n")
    monkeypatch.setattr(backend, "CONTAINER_LIMITS", (tmp_path / "missing", unlimited, told))
    assert backend.resolve("cpu").device_memory_bytes == 123456789
    told.write_text(str(2**62))
    of_machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert backend.resolve("cpu").device_memory_bytes == of_machine
