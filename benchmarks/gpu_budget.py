"""What an iteration of exact ALS should take on a GPU, kernel by kernel: an estimate, nothing measured.

    python -m benchmarks.gpu_budget [users items draws factors]

Bytes and operations are counted; what a multiprocessor does with them is estimated from the instructions
that the compiler made and from latencies as published for Hopper (each a constant below). A launch takes the
longest of four limits: the chains of dependent steps of its rows, as many at a time as blocks share a
multiprocessor; the tensor cores; the memory; and the issue slots, four warp instructions a cycle. The
instructions of the loops of products are read from machine code (benchmarks/sass.py writes the file); those
of the rest are constants, read from the same listing once.
"""

from __future__ import annotations

import json
import math
import sys
from typing import NamedTuple

import numpy as np
from scipy import sparse

from benchmarks.datasets import zipf_interactions
from benchmarks.sass import COUNTS_FILE
from shopsight.kernels.cuda.launches import Launch, dual_capacities, dual_launch, primal_launch
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.plan import SEGMENT

MULTIPROCESSORS, CLOCK, SHARED_BYTES = 132, 1.755e9, 227 * 1024
MMA_CYCLES = 6.3  # of one partition for m16n8k8 in tf32 or m16n8k16 in halves: mma.sync reaches 0.63 of wgmma
DEPENDENT_LOADS = 2000.0  # row number, its range, its columns, their factors
COPY_CYCLES = 900.0  # a row of factors from memory to shared memory
PIVOT_CYCLES, STEP_CYCLES = 65.0, 350.0  # of a 16-wide Cholesky step: its chain, and panel, update, barriers
BACK_CYCLES = 110.0  # substitution, a step back and forth
SWEEPS = 6  # of Jacobi between epochs: four, and two to refine
ISSUES_PER_CYCLE = 4  # of a multiprocessor: one a partition
# The share of issue slots that kernels of dependent instructions and barriers fill; .6 to .8 is usual.
ISSUE_SHARE = 0.75
# Warp instructions, by the listing of sm_90 at 128 factors.
ROW_INSTRUCTIONS = 300  # a warp's, before the first product
SPLIT_INSTRUCTIONS = 76  # of 32 lanes with eight floats each, to pairs of halves
PIVOT_INSTRUCTIONS, TILE_INSTRUCTIONS = 50, 190  # of a Cholesky step by one warp; of a product of two tiles
COMBINE_INSTRUCTIONS = 39  # of an entry times the row, 32 lanes with four floats each
PASS_INSTRUCTIONS, UNROLLED = 14, 4  # of an entry of weight 0, 32 lanes with four floats; loads under way
CHUNK_INSTRUCTIONS = 150  # of als_primal's warp for a chunk without products


class Chip(NamedTuple):
    """Bytes a second that gathers of whole rows reach."""

    name: str
    gather_bytes: float


CHIPS = (Chip("H100", 2.9e12), Chip("H200", 4.2e12))


class Line(NamedTuple):
    """One launch of one half step; milliseconds by each of the limits but memory."""

    name: str
    rows: int
    entries: int
    tensor_operations: float
    plain_operations: float
    bytes: float
    blocks: int
    warps: int
    chain_ms: float
    tensor_ms: float
    issue_ms: float

    def expected_ms(self, chip: Chip) -> float:
        """The longest of the four limits on a chip."""
        return max(self.chain_ms, self.tensor_ms, self.issue_ms, 1e3 * self.bytes / chip.gather_bytes)


def instructions(loop: str) -> int:
    """The warp instructions of one pass of a kernel's product loop."""
    return int(json.loads(COUNTS_FILE.read_text(encoding="utf-8"))[loop]["instructions"])


def half_step_lines(degrees: np.ndarray, weighted: np.ndarray, layout: Layout) -> list[Line]:
    """The launches for rows of so many entries, some of them weighted, as kernels/cuda/plan.py sorts them."""
    present = degrees > 0
    degrees, weighted = degrees[present], weighted[present]
    capacities = dual_capacities(layout, SHARED_BYTES)
    limit = min(max(capacities, default=0), layout.num_factors - 1)
    is_short = (weighted <= limit) & (degrees <= SEGMENT)
    lines, low = [], -1
    for capacity in capacities:
        chosen = is_short & (weighted > low) & (weighted <= capacity)
        low = capacity
        if chosen.any():
            lines.append(dual_line(capacity, degrees[chosen], weighted[chosen], layout))
    if not is_short.all():
        lines.append(primal_line(degrees[~is_short], weighted[~is_short], layout))
    return lines


def dual_line(capacity: int, degrees: np.ndarray, weighted: np.ndarray, layout: Layout) -> Line:
    """als_dual; per row of k weighted entries and s tiles of 16: split, product, Cholesky, result.

    Its other entries pass by: a load and four products of floats for each 16 bytes.
    """
    launch, f, k = dual_launch(layout, capacity), layout.num_factors, weighted.astype(np.float64)
    passing, vectors = degrees - k, layout.padded / 4
    side, warps, slices = np.ceil(k / 16), launch.threads / 32, max(1, launch.threads / vectors)
    squares = np.ceil(side / 2) * (np.ceil(side / 2) + 1) / 2
    split = 70 * np.ceil(16 * side * layout.padded / 8 / launch.threads)
    product = np.ceil(squares / warps) * layout.padded / 16 * 24 * MMA_CYCLES * 1.3
    solve = side * (STEP_CYCLES + BACK_CYCLES) + PIVOT_CYCLES * k
    result = 20 * k / slices + 200
    gather = np.where(passing > 0, COPY_CYCLES * np.ceil(passing / slices / UNROLLED), 0)
    chain = DEPENDENT_LOADS + split + product + solve + result + gather
    mma = side * (side + 1) / 2 * (layout.padded / 16) * 6 + side**3 / 6 * 12
    lanes = vectors / 32
    issued = warps * ROW_INSTRUCTIONS + SPLIT_INSTRUCTIONS * 16 * side * layout.padded / 8 / 32
    issued = issued + squares * layout.padded / 16 * instructions("als_dual") + solve_instructions(side)
    issued = issued + COMBINE_INSTRUCTIONS * k * lanes + PASS_INSTRUCTIONS * passing * lanes
    issued = issued + np.where(passing > 0, COMBINE_INSTRUCTIONS * vectors * np.ceil(k / 32), 0)
    operations = k * (k + 1) * f, k**3 / 3 + 4 * k * f + 2 * passing * f
    return _line(f"als_dual {capacity}", launch, degrees, *operations, layout, chain, mma, issued)


def primal_line(degrees: np.ndarray, weighted: np.ndarray, layout: Layout) -> Line:
    """als_primal, and als_partial with als_finish for the longest; a chunk is 32 entries."""
    launch, f, k = primal_launch(layout, "als_primal"), layout.num_factors, degrees.astype(np.float64)
    blocks, side = np.ceil(k / SEGMENT), math.ceil(f / 16)
    tiles = layout.padded // 32 * (layout.padded // 32 + 1) / 2
    chunks, products = np.ceil(k / 32), np.ceil(weighted / 32)
    rounds = math.ceil(tiles * 32 / launch.threads)
    # of the next chunk, during the product of this one
    arrival = np.maximum(COPY_CYCLES, rounds * 2 * 24 * MMA_CYCLES * 1.3)
    chain = DEPENDENT_LOADS * blocks + products * (arrival + 250) + (chunks - products) * COPY_CYCLES
    chain += side * (STEP_CYCLES * side / 4 + BACK_CYCLES) + PIVOT_CYCLES * f
    mma = products * tiles * 2 * 24 + side**3 / 6 * 12
    plain = np.full(len(k), f**3 / 3 + 2.0 * f * f)
    issued = products * instructions("als_primal") + (chunks - products) * CHUNK_INSTRUCTIONS
    issued = issued * launch.threads / 32 + solve_instructions(np.array(side))
    return _line("als_primal", launch, degrees, weighted * f * (f + 1.0), plain, layout, chain, mma, issued)


def solve_instructions(side: np.ndarray) -> np.ndarray:
    """Cholesky of a matrix of `side` tiles: its pivots, its panels and updates."""
    pairs = (side - 1) * side * (side + 1) / 6  # of tiles right of a panel, over all panels
    return PIVOT_INSTRUCTIONS * 16 * side + TILE_INSTRUCTIONS * (pairs + side * (side - 1) / 2)


def _line(
    name: str,
    launch: Launch,
    degrees: np.ndarray,
    tensor: np.ndarray,
    plain: np.ndarray,
    layout: Layout,
    chain: np.ndarray,
    mma: np.ndarray,
    issued: np.ndarray,
) -> Line:
    blocks, k = dict(launch.kernel.defines)["BLOCKS"], degrees
    moved = k.sum() * (layout.stored * layout.bits / 8 + 12) + len(k) * layout.stored * layout.bits / 8
    per_second = MULTIPROCESSORS * CLOCK
    return Line(
        name, len(k), int(k.sum()), float(tensor.sum()), float(plain.sum()), float(moved), blocks,
        blocks * launch.threads // 32, 1e3 * float(chain.sum()) / blocks / per_second,
        1e3 * float(mma.sum()) * MMA_CYCLES / 4 / per_second,
        1e3 * float(issued.sum()) / ISSUES_PER_CYCLE / ISSUE_SHARE / per_second,
    )  # fmt: skip


def basis_ms(num_rows: int, layout: Layout, chip: Chip) -> float:
    """Gramian, eigenvectors and rotation of the fixed side: three passes over it, and Jacobi on one block."""
    moved = 3 * num_rows * layout.stored * layout.bits / 8
    order = layout.num_factors
    passes = order // 4 * (order // 2 + 1) / 32  # of a warp over the pairs of pairs of a round
    round_seconds = instructions("jacobi") * passes / ISSUES_PER_CYCLE / ISSUE_SHARE / CLOCK
    return 1e3 * (moved / chip.gather_bytes + SWEEPS * order * round_seconds) + 0.15


def table(matrix: sparse.csr_matrix, layout: Layout) -> str:
    """The budget of one iteration as a Markdown table, and its sums for each chip."""
    columns = ["side", "kernel", "rows", "entries", "tensor GFLOP", "fp32 GFLOP", "GB", "blocks x warps"]
    columns += ["chain ms", "tensor ms", "issue ms", *(f"memory ms {chip.name}" for chip in CHIPS)]
    lines = [_cells(columns), "|" + "---|" * len(columns)]
    totals = dict.fromkeys(CHIPS, 0.0)
    for side, rows in (("users", matrix), ("items", matrix.T.tocsr())):
        # Confidence 1 beside an unobserved weight of 1: what was met once has a target and no weight.
        running = np.concatenate([[0], np.cumsum(rows.data > 1)])
        for line in half_step_lines(np.diff(rows.indptr), np.diff(running[rows.indptr]), layout):
            memory = {chip: 1e3 * line.bytes / chip.gather_bytes for chip in CHIPS}
            for chip in CHIPS:
                totals[chip] += line.expected_ms(chip)
            cells = [
                side,
                line.name,
                f"{line.rows:,}",
                f"{line.entries:,}",
                f"{line.tensor_operations / 1e9:.0f}",
            ]
            cells += [f"{line.plain_operations / 1e9:.1f}", f"{line.bytes / 1e9:.2f}"]
            cells += [f"{line.blocks} x {line.warps // line.blocks}"]
            cells += [f"{x:.2f}" for x in (line.chain_ms, line.tensor_ms, line.issue_ms, *memory.values())]
            lines.append(_cells(cells))
    for chip in CHIPS:
        bases = sum(basis_ms(n, layout, chip) for n in matrix.shape)
        whole = totals[chip] + bases
        lines.append(f"\n{chip.name}: rows {totals[chip]:.1f} ms + bases {bases:.1f} ms = {whole:.1f} ms.")
    return "\n".join(lines)


def _cells(texts: list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


if __name__ == "__main__":
    numbers = [int(float(x)) for x in sys.argv[1:]] or [359_000, 160_000, 20_375_000, 128]
    interactions = zipf_interactions(*numbers[:3])
    for storage in ("float32", "bfloat16"):
        print(f"\n{interactions.nnz:,} interactions, {numbers[3]} factors, {storage}: an estimate\n")
        print(table(interactions, Layout(numbers[3], storage)))
