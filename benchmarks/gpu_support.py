"""What of the project has been seen on a GPU: the table of README's section "On a GPU".

    python -m benchmarks.gpu_support    # write the table into README.md

A path counts as seen when a folder of benchmarks/results has rows of one of its benchmarks from an NVIDIA
device.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results")
_BEGIN, _END = "<!-- gpu support -->\n", "<!-- end of gpu support -->\n"


class Route(NamedTuple):
    """A way through the project, what protects it where there is no GPU, and the benchmarks that show it."""

    name: str
    protection: str
    benchmarks: tuple[str, ...]


_KERNELS = (
    "compiled for sm_80, sm_90 and sm_100; the parity tests under a host harness that finds races in shared "
    "memory, accesses past an end and barriers that not all threads reach"
)
PATHS = (
    Route("exact ALS, CG, fold-in", _KERNELS, ("als",)),
    Route("SGD, BPR", _KERNELS, ("sgd", "bpr")),
    Route("top-k with masks", _KERNELS, ("topk",)),
    Route("cleaning with cuDF", "the plan is translated for cuDF in a test", ("ingest",)),
    Route(
        "clustering, PCA, UMAP with cuML",
        "a test holds our calls to arguments that cuML takes",
        ("profiles",),
    ),
    Route(
        "two towers and ranker with TorchRec", "trained on the CPU, on one to four workers", ("embedding",)
    ),
    Route("images with DALI", "decoded by DALI's CPU operators", ("images",)),
)


def devices_of(path: Route, results: Path = RESULTS) -> list[str]:
    """NVIDIA devices with rows of one of a path's benchmarks, sorted."""
    files = [file for name in path.benchmarks for file in results.glob(f"*/{name}.json")]
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    devices = {str(row["device"]) for row in rows}
    return sorted(device for device in devices if device.startswith("NVIDIA"))


def table(results: Path = RESULTS) -> str:
    """The table as Markdown."""
    lines = ["| path | without a GPU | seen on a GPU |", "|---|---|---|"]
    for path in PATHS:
        seen = ", ".join(devices_of(path, results)) or "not yet"
        lines.append(f"| {path.name} | {path.protection} | {seen} |")
    return "\n".join(lines) + "\n"


def written(readme: str, results: Path = RESULTS) -> str:
    """README's text with the present table between its marks."""
    return re.sub(f"{_BEGIN}.*?{_END}", lambda _: f"{_BEGIN}{table(results)}{_END}", readme, flags=re.DOTALL)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
