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


@needs_tools
def test_loops_of_products_are_mostly_products() -> None:
    found = sass.counts()
    # 24 products need 8 loads of matrices; the rest is addresses.
    assert found["als_dual"]["instructions"] <= 2.5 * found["als_dual"]["products"]
    assert found["als_dual"]["warpsync"] == 0
    # 16 products are two steps of 16 factors, with 8 loads of matrices.
    assert found["topk_scan bfloat16"]["instructions"] <= 2.5 * found["topk_scan bfloat16"]["products"]
    # Beside its products, a chunk is read, split, stored and added to the right-hand side.
    assert found["als_primal"]["instructions"] <= 8 * found["als_primal"]["products"]
    assert found["als_primal"]["warpsync"] <= 2  # a chunk; its loops of products are unrolled
    assert found["rotate"]["warpsync"] == found["topk_scan float32"]["warpsync"] == 0


def test_a_launch_lasts_as_long_as_its_longest_limit() -> None:
    degrees, weighted = np.array([0, 5, 40, 40, 90, 500, 5000]), np.array([0, 0, 40, 3, 90, 130, 7])
    lines = gpu_budget.half_step_lines(degrees, weighted, Layout(128, "float32"))
    names = ["als_dual 16", "als_dual 48", "als_dual 96", "als_primal"]
    assert [line.name for line in lines] == names
    assert [line.rows for line in lines] == [2, 1, 1, 2] and sum(line.entries for line in lines) == 5675
    for line in lines:
        for chip in gpu_budget.CHIPS:
            limits = line.chain_ms, line.tensor_ms, line.issue_ms, 1e3 * line.bytes / chip.gather_bytes
            assert line.expected_ms(chip) == max(limits) > 0
