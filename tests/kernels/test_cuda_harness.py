"""The host harness finds the faults that it promises to find (tests/kernels/cuda_host/host_cuda.h)."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.kernels.cuda_host.device import KernelFault, run_source

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the host harness needs g++")

KERNEL = """
#include "host_cuda.h"
extern "C" __global__ void probe(float* data, int n) {
    float* shared = reinterpret_cast<float*>(host::shared_memory);
    const int i = threadIdx.x;
    BODY
}
"""


def run(body: str, order: int = 0, threads: int = 64, shared: int = 256) -> np.ndarray:
    data = np.arange(threads, dtype=np.float32)
    source = KERNEL.replace("BODY", body)
    run_source(source, "probe", (), (1, 1), threads, shared, (data, np.int32(threads)), order)
    return data


REVERSE = "shared[i] = data[i]; BARRIER data[i] = shared[n - 1 - i];"


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_correct_kernel_gives_the_same_in_every_order(order):
    assert (run(REVERSE.replace("BARRIER", "__syncthreads();"), order) == np.arange(64)[::-1]).all()


def test_a_missing_barrier_shows_in_every_order():
    wrong = [run(REVERSE.replace("BARRIER", ""), order) for order in (0, 1, 2)]
    assert all(not np.array_equal(data, np.arange(64)[::-1]) for data in wrong)


def test_a_missing_second_barrier_shows_in_some_order():
    body = "shared[i] = data[i]; __syncthreads(); float x = shared[n - 1 - i]; shared[i] = 0; data[i] = x;"
    wrong = [run(body, order) for order in (0, 1, 2)]
    assert any(not np.array_equal(data, np.arange(64)[::-1]) for data in wrong)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("if (i < 32) __syncthreads();", "never reaches"),
        ("if (i < 32) { __syncthreads(); } else {\n __syncthreads(); }", "different barriers"),
        ("if (i != 5) data[i] = __shfl_sync(0xffffffffu, data[i], 0);", "lane that has ended"),
        ("if (i & 1) __syncwarp(); else data[i] = __ballot_sync(0xffffffffu, 1);", "different operations"),
        ("shared[i + 1] = 0;", "outside its array"),
        ("data[i] = shared[i + 16];", "outside its array"),
        ("data[i + 1] = 0;", "outside its array"),
    ],
)
def test_a_fault_is_reported_and_the_harness_goes_on(body, fault):
    with pytest.raises(KernelFault, match=fault):
        run(body)
    assert (run(REVERSE.replace("BARRIER", "__syncthreads();")) == np.arange(64)[::-1]).all()


def test_shared_memory_that_nothing_wrote_is_nan():
    assert np.isnan(run("data[i] = shared[i];")).all()


def test_an_asynchronous_copy_lands_only_when_waited_for():
    body = "host::copy_later(shared + i, data + i, 4); host::commit_copies(); WAIT data[i] = shared[i] + 1;"
    assert np.isnan(run(body.replace("WAIT", ""))).all()
    assert (run(body.replace("WAIT", "host::wait_copies(0);")) == np.arange(64) + 1).all()


def watched(body: str, order: int = 0) -> np.ndarray:
    data = np.arange(64, dtype=np.float32)
    source = KERNEL.replace("BODY", body)
    run_source(source, "probe", (), (1, 1), 64, 256, (data, np.int32(64)), order, watch_races=True)
    return data


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(
    ("body", "what"),
    [
        (REVERSE.replace("BARRIER", ""), "written by thread"),
        # the value read is right in every order of these threads
        ("shared[i] = 1; __syncwarp(); data[i] = shared[i ^ 32];", "written by thread"),
        ("shared[0] = 1; __syncthreads(); data[i] = shared[0];", "written by thread"),
        ("data[i] = shared[i & 31]; if (i == 40) shared[3] = 2;", "read by"),
        ("if (i < 32) { data[i] = shared[0]; if (i == 9) shared[0] = 1; }", "read by"),
        (
            "host::copy_later(shared + i / 2, data + i, 4); host::commit_copies(); host::wait_copies(0);",
            "written",
        ),
        ("reinterpret_cast<short*>(shared)[i / 2] = 1;", "written by thread"),
    ],
)
def test_a_race_is_found_with_its_lines(order, body, what):
    with pytest.raises(KernelFault, match=f"race at byte .*{what}"):
        watched(body, order)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(
    "body",
    [
        REVERSE.replace("BARRIER", "__syncthreads();"),
        "shared[i] = data[i]; __syncwarp(); data[i] = shared[i ^ 1]; __syncwarp(); shared[i ^ 1] = 0;",
        "if (!i) shared[0] = 1; __syncthreads(); data[i] = shared[0]; __syncthreads(); if (i) shared[i] = 2;",
        "atomicAdd(shared, 1.f);",
        "host::copy_later(shared + i, data, 4); host::commit_copies(); host::wait_copies(0); shared[i] += 1;",
        "reinterpret_cast<short*>(shared)[i] = 1;",
    ],
)
def test_what_is_ordered_is_no_race(order, body):
    watched(body, order)
