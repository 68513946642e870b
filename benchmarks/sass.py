"""Counts the instructions of the CUDA kernels in machine code, without a device.

    python -m benchmarks.sass            # write benchmarks/gpu_instructions.json for the launches below
    python -m benchmarks.sass als_dual   # show the loops of one kernel

Needs NVRTC and cuobjdump with nvdisasm, all three of which are wheels of the `dev` extra.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.cuda_compiler import machine_code
from shopsight.kernels.cuda.launches import Launch, dual_launch, jacobi_launch, primal_launch, rotate_launch
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.topk import scan_launch

COUNTS_FILE = Path(__file__).with_name("gpu_instructions.json")
NO_CUOBJDUMP = "no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"
ARCHITECTURE = 90
_LINE = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_.]+)(.*);")
_TARGET = re.compile(r"0x([0-9a-f]+)")


class Instruction(NamedTuple):
    """One instruction: its address, its name with modifiers, its operands."""

    address: int
    name: str
    operands: str


class Loop(NamedTuple):
    """The instructions between the target of a backward branch and the branch."""

    instructions: tuple[Instruction, ...]

    @property
    def num_instructions(self) -> int:
        return len(self.instructions)

    def count(self, prefix: str) -> int:
        """How many instructions begin with a name, as HMMA."""
        return sum(instruction.name.startswith(prefix) for instruction in self.instructions)


class Probe(NamedTuple):
    """A launch, and what its product loop is: the smallest with so many instructions of a name."""

    launch: Launch
    instruction: str
    at_least: int


def probes() -> dict[str, Probe]:
    """The loops that the budget reads, at 128 factors."""
    wide, half = Layout(128, "float32"), Layout(128, "bfloat16")
    return {
        "als_dual": Probe(dual_launch(wide, 48), "HMMA", 24),
        "als_primal": Probe(primal_launch(wide, "als_primal"), "HMMA", 48),
        "rotate": Probe(rotate_launch(wide), "HMMA", 48),
        "jacobi": Probe(jacobi_launch(wide), "STS", 4),
        "topk_scan float32": Probe(scan_launch(wide, 64, 10), "HMMA", 48),
        "topk_scan bfloat16": Probe(scan_launch(half, 64, 10), "HMMA", 16),
    }


def disassemble(launch: Launch) -> list[Instruction]:
    """The instructions of a launch's kernel, compiled for sm_90 as cupy compiles it."""
    tool = find_cuobjdump()
    assert tool is not None, NO_CUOBJDUMP
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code(launch.kernel, ARCHITECTURE))
        file.flush()
        path = f"{tool.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [str(tool), "-sass", "-fun", launch.kernel.name, file.name]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path}
        )
    return [Instruction(int(m[1], 16), m[2], m[3]) for m in map(_LINE.match, done.stdout.splitlines()) if m]


def loops(instructions: list[Instruction]) -> Iterator[Loop]:
    """Every loop: what lies between a backward branch and its target, inner loops first."""
    spans = set()
    for at in instructions:
        target = _TARGET.search(at.operands) if at.name.startswith("BRA") else None
        if target and int(target[1], 16) < at.address:
            spans.add((int(target[1], 16), at.address))
    for first, last in sorted(spans, key=lambda span: span[1] - span[0]):
        yield Loop(tuple(i for i in instructions if first <= i.address <= last))


def product_loop(probe: Probe) -> Loop:
    """The loop that a kernel spends its time in."""
    found = loops(disassemble(probe.launch))
    return next(loop for loop in found if loop.count(probe.instruction) >= probe.at_least)


@functools.cache
def find_cuobjdump() -> Path | None:
    """The program of the wheel, if it is installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    return next((p for folder in folders for p in folder.glob("*/bin/cuobjdump")), None)


def counts() -> dict[str, dict[str, int]]:
    """The product loop of each launch: its instructions, its HMMA and its WARPSYNC."""
    found = {}
    for name, probe in probes().items():
        loop = product_loop(probe)
        found[name] = {
            "instructions": loop.num_instructions,
            "products": loop.count("HMMA"),
            "warpsync": loop.count("WARPSYNC"),
        }
    return found


def main(name: str | None = None) -> None:
    """Write the counts, or print the loops of one kernel."""
    if name is None:
        COUNTS_FILE.write_text(json.dumps(counts(), indent=1) + "\n", encoding="utf-8")
        print(f"wrote {COUNTS_FILE}")
        return
    for loop in loops(disassemble(probes()[name].launch)):
        common = Counter(i.name.split(".")[0] for i in loop.instructions).most_common(12)
        print(hex(loop.instructions[0].address), loop.num_instructions, dict(common))


if __name__ == "__main__":
    main(*sys.argv[1:])
