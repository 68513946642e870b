"""Every CUDA source compiles for three generations of chips without a device, fits them, does not spill."""

from __future__ import annotations

import pytest

from benchmarks.cuda_compiler import NONE_FOUND, compile_kernel, find_compiler
from shopsight.kernels.cuda.launches import (
    Launch,
    cg_capacities,
    cg_launch,
    dual_capacities,
    dual_launch,
    gramian_launch,
    jacobi_launch,
    primal_launch,
    rescue_launch,
    rotate_launch,
)
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runs import THREADS
from shopsight.kernels.cuda.runtime import Kernel
from shopsight.kernels.cuda.topk import scan_launch
from tests.kernels.test_cuda_als import FACTORS

pytestmark = pytest.mark.skipif(find_compiler() is None, reason=NONE_FOUND)

SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
REGISTERS = 64 * 1024  # of a multiprocessor, in all three generations
CASES = [
    *((architecture, Layout(128, "float32")) for architecture in (80, 90, 100)),
    *((90, Layout(f, storage)) for f, storage in ((64, "float16"), (100, "bfloat16"))),
    *((90, Layout(f, "float32")) for f in FACTORS if f != 128),
    (90, Layout(64, "bfloat16")),
]


# Its source asks for a multiprocessor of its own: few rows are long enough to be split and finished.
ALONE = {"als_finish"}
# Divisions of doubles are calls, around which registers are saved; it runs for a handful of rows.
RARE = {"als_rescue"}


def launches(layout: Layout, shared_bytes: int) -> list[Launch]:
    """Every launch that the loaders make for a layout, on a device with so much shared memory."""
    descent = [
        Launch(Kernel(f"{source}.cu", name, layout.defines), THREADS, 0)
        for source, name in (("sgd", "sgd_pass"), ("bpr", "bpr_pass"), ("merge", "merge_runs"))
    ]
    return [
        *(primal_launch(layout, "als_primal", signed=signed) for signed in (False, True)),
        gramian_launch(layout),
        rescue_launch(layout),
        *(dual_launch(layout, capacity) for capacity in dual_capacities(layout, shared_bytes)),
        *(cg_launch(layout, capacity) for capacity in cg_capacities(layout, shared_bytes)),
        *(scan_launch(layout, users, 10) for users in (64, 32)),
        rotate_launch(layout),
        jacobi_launch(layout),
        *descent,
    ]


@pytest.mark.parametrize(
    ("architecture", "launch"),
    [
        pytest.param(
            architecture,
            launch,
            id=f"sm_{architecture}-{launch.kernel.name}-{layout.num_factors}x{layout.storage}-{launch.threads}-{launch.shared}"
            + "-signed" * dict(launch.kernel.defines).get("SIGNED", 0),
        )
        for architecture, layout in CASES
        for launch in launches(layout, SHARED_BYTES[architecture])
    ],
)
def test_a_launch_compiles_fits_and_does_not_spill(architecture, launch, record_property):
    blocks = dict(launch.kernel.defines).get("BLOCKS", 1)
    found = compile_kernel(launch.kernel, architecture)
    assert launch.kernel.name in found
    for name, resources in found.items():
        record_property(f"{name} registers", resources.registers)
        if name not in RARE:
            assert resources.spill_bytes == 0 and resources.stack_bytes == 0, (name, resources)
        sharing = 1 if name in ALONE else blocks
        assert resources.registers * launch.threads * sharing <= REGISTERS, (name, resources)
    assert launch.shared <= SHARED_BYTES[architecture]
