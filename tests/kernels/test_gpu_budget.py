"""The budget of an iteration on a GPU counts what the compiler makes of the kernels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import gpu_budget, sass
from benchmarks.cuda_compiler import NONE_FOUND, find_compiler
from shopsight.kernels.cuda.layout import Layout

needs_tools = pytest.mark.skipif(
    find_compiler() is None or sass.find_cuobjdump() is None, reason=f"{NONE_FOUND}; {sass.NO_CUOBJDUMP}"
)


@needs_tools
def test_the_counts_of_instructions_are_those_of_the_machine_code() -> None:
    assert sass.counts() == json.loads(sass.COUNTS_FILE.read_text(encoding="utf-8"))


def test_a_launch_lasts_as_long_as_its_longest_limit() -> None:
    lines = gpu_budget.half_step_lines(np.array([5, 40, 40, 90, 500, 5000]), Layout(128, "float32"))
    assert [line.rows for line in lines] == [1, 2, 1, 2] and sum(line.entries for line in lines) == 5675
    for line in lines:
        for chip in gpu_budget.CHIPS:
            limits = line.chain_ms, line.tensor_ms, line.issue_ms, 1e3 * line.bytes / chip.gather_bytes
            assert line.expected_ms(chip) == max(limits) > 0
