"""What is checked of a GPU before a kernel is launched, with a stand-in for cupy."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shopsight.kernels import backend
from shopsight.kernels.cuda import plan, runtime
from shopsight.kernels.cuda.launches import dual_launch, primal_launch, require_fit
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.rows import Rows
from tests.kernels.cuda_host.device import HostDevice

# Shared memory a block may ask for, of A100, H100, and of RTX 30, 40 and 50.
A100, H100, CONSUMER = 163 * 1024, 227 * 1024, 99 * 1024


class FakeFunction:
    """Remembers what was set before it was called."""

    max_dynamic_shared_size_bytes = 48 * 1024
    preferred_shared_memory_carveout = -1

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *_: object, **__: object) -> None:
        self.calls += 1


def fake_cupy(shared: int, capability: tuple[int, int] = (9, 0)) -> SimpleNamespace:
    """As much of cupy as a device needs; every kernel is `functions[name]`."""
    functions: dict[str, FakeFunction] = {}
    attributes = {
        "MaxSharedMemoryPerBlockOptin": shared,
        "MultiProcessorCount": 8,
        "MaxSharedMemoryPerMultiprocessor": shared + 1024,
    }
    properties = {
        "name": b"Test GPU",
        "major": capability[0],
        "minor": capability[1],
        "totalGlobalMem": 2**34,
    }
    cuda = SimpleNamespace(
        Device=lambda: SimpleNamespace(attributes=attributes),
        Stream=lambda **_: None,
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1, getDevice=lambda: 0, getDeviceProperties=lambda _: properties
        ),
    )
    module = SimpleNamespace(get_function=lambda name: functions.setdefault(name, FakeFunction()))
    return SimpleNamespace(cuda=cuda, RawModule=lambda **_: module, functions=functions)


def test_shared_memory_is_asked_for_and_the_carveout_is_what_the_blocks_need(monkeypatch):
    cupy = fake_cupy(H100)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device, launch = runtime.CudaDevice(), dual_launch(Layout(128, "float32"), 48)
    device.launch(launch.kernel, (1, 1), launch.threads, launch.shared, ())
    (function,) = cupy.functions.values()
    blocks = dict(launch.kernel.defines)["BLOCKS"]
    assert function.calls == 1 and blocks > 1
    needed = 100 * blocks * (launch.shared + 1024) / (H100 + 1024)
    assert needed <= function.preferred_shared_memory_carveout < needed + 1


def test_a_block_that_the_chip_does_not_have_is_refused_before_the_launch(monkeypatch):
    cupy = fake_cupy(CONSUMER)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    launch = primal_launch(Layout(256, "float32"), "als_primal")
    with pytest.raises(ValueError, match=r"als_primal: a block of 144,608 bytes .* this GPU has 101,376"):
        runtime.CudaDevice().launch(launch.kernel, (1, 1), launch.threads, launch.shared, ())
    assert all(function.calls == 0 for function in cupy.functions.values())


@pytest.mark.parametrize(("shared", "most"), [(H100, 256), (A100, 256), (CONSUMER, 160)])
def test_the_most_factors_of_a_chip(shared, most):
    device = HostDevice(shared_bytes=shared)
    require_fit(device, Layout(most, "float32"))
    rows = Rows(np.array([0, 1]), np.zeros(1, np.int32), *np.ones((3, 1), np.float32))
    for layout in (Layout(most + 1, "float32"), Layout(256, "bfloat16")):
        if layout.num_factors <= 256 and most < 256:
            with pytest.raises(
                ValueError, match=f"{layout.num_factors} columns need .* at most {most} factors"
            ):
                plan.load_interactions(device, layout, rows, use_cg=False)


@pytest.mark.parametrize(("capability", "usable"), [((7, 5), False), ((8, 0), True), ((12, 0), True)])
def test_a_chip_without_asynchronous_copies_is_not_used(monkeypatch, capability, usable):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(H100, capability))
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda _: object())
    monkeypatch.delenv(backend.BACKEND_VARIABLE, raising=False)
    assert (backend.resolve().name == "cuda") is usable
    if not usable:
        with pytest.raises(
            backend.BackendUnavailable, match=r"Test GPU has compute capability 7\.5 .*remedy"
        ):
            backend.resolve("cuda")
