"""An epoch neither reads from the device nor copies to it: the host starts it and goes on."""

from __future__ import annotations

import functools
import shutil

import numpy as np
import pytest

from shopsight.kernels.cuda import basis, runtime
from shopsight.kernels.cuda.als import AlsTraining
from shopsight.kernels.cuda.bpr import BprTraining
from shopsight.kernels.cuda.sgd import SgdTraining
from shopsight.kernels.cuda.topk import ItemIndex
from tests.kernels.cuda_host.device import HostDevice
from tests.kernels.test_cuda_als import diagonalise, make_factors, make_rows, transpose

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")


class DeviceArray(np.ndarray):
    """NumPy's array with cupy's manners: reading it on the host means waiting, and is written down."""

    waits: list[str] = []  # noqa: RUF012 - one list for all

    def __array_wrap__(self, array, context=None, return_scalar=False):
        del context, return_scalar
        return array.view(DeviceArray)  # cupy's sums are arrays too

    def __getitem__(self, key):
        found = np.asarray(self)[np.asarray(key) if isinstance(key, DeviceArray) else key]
        return np.asarray(found).view(DeviceArray)


def _reader(name):
    def read(self, *arguments):
        DeviceArray.waits.append(name)
        return getattr(np.asarray(self), name)(*arguments)

    return read


for _name in ("__bool__", "__int__", "__float__", "__index__", "__iter__", "item", "tolist", "__contains__"):
    setattr(DeviceArray, _name, _reader(_name))


class FakeCupy:
    """NumPy's functions on DeviceArray; `asarray` of an array of the host's is a copy to the device."""

    def __getattr__(self, name):
        function = getattr(np, name)

        @functools.wraps(function)
        def call(*arguments, **options):
            if name in ("asarray", "array", "ascontiguousarray"):
                if not isinstance(arguments[0], DeviceArray):
                    DeviceArray.waits.append(f"{name} of an array of the host's")
                function_ = np.asanyarray
            else:
                function_ = function
            found = function_(*arguments, **options)
            return found.view(DeviceArray) if isinstance(found, np.ndarray) else found

        return call


class WatchedDevice(HostDevice):
    xp = FakeCupy()

    def __init__(self):
        super().__init__()
        self.constants = {}

    def constant(self, key, make):
        if key not in self.constants:
            self.constants[key] = make().view(DeviceArray)
        return self.constants[key]

    def launch(self, kernel, blocks, threads, shared, arguments):
        for argument in arguments:
            assert argument is None or isinstance(argument, (DeviceArray, np.generic)), (
                kernel.name,
                argument,
            )
        super().launch(kernel, blocks, threads, shared, arguments)


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    device = WatchedDevice()
    monkeypatch.setattr(runtime, "device", lambda: device)


def waits_of(run) -> list[str]:
    run()  # the first time may compile, and copy constants
    DeviceArray.waits.clear()
    run()
    return DeviceArray.waits.copy()


def test_the_watch_sees_a_wait():
    array = np.ones(3, np.float32).view(DeviceArray)
    for read in (
        lambda: float(array.sum()),
        lambda: bool(array[0]),
        lambda: WatchedDevice.xp.asarray(np.ones(2)),
    ):
        assert waits_of(read)
    assert not waits_of(lambda: array.sum() + array[1])


@pytest.mark.parametrize("solver", ["exact", "cg"])
@pytest.mark.parametrize("unobserved_weight", [0.0, 0.1])
def test_an_epoch_of_als_waits_for_nothing(solver, unobserved_weight, monkeypatch):
    users = make_rows([0, 5, 20, 40, 2500], num_columns=70, duplicates=True)
    training = AlsTraining(
        users, transpose(users, 70), make_factors(12, num_rows=5), make_factors(12, num_rows=70),
        unobserved_weight, solver, 2,
    )  # fmt: skip
    if solver == "cg":  # once with our own eigenvectors is enough
        monkeypatch.setattr(basis, "diagonalise", diagonalise)
    assert waits_of(training.run_epoch) == []


def test_a_pass_of_descent_waits_for_nothing():
    rows, x, y = make_rows([3, 40, 90]), make_factors(12, num_rows=3), make_factors(12)
    biases = np.zeros(3, np.float32), np.zeros(300, np.float32)
    sgd = SgdTraining(rows.indptr, rows.indices, rows.target, x, y, *biases, 1.0)
    assert waits_of(lambda: sgd.run_pass(0.01, 0.01, 0.01, 0.01, 0, 0)) == []
    bpr = BprTraining(rows.indptr, rows.indices, x, y)
    assert waits_of(lambda: bpr.run_pass(0.05, 0.01, 0, 0)) == []


def test_top_k_between_device_arrays_waits_for_nothing():
    index = ItemIndex(make_factors(12), np.arange(5, dtype=np.int32))
    users, rows = index.store(make_factors(12, num_rows=3)), make_rows([3, 40, 90])
    indptr, indices = rows.indptr.view(DeviceArray), rows.indices.view(DeviceArray)
    assert waits_of(lambda: index.topk_on_device(users, 10, indptr, indices)) == []
