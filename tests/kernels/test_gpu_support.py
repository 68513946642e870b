"""README says of every path what was seen on a GPU, from the results that are there."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import gpu_support


def test_the_readme_has_the_present_table() -> None:
    readme = (gpu_support.ROOT / "README.md").read_text(encoding="utf-8")
    assert gpu_support.written(readme) == readme, "run python -m benchmarks.gpu_support"
    assert gpu_support.table() in readme


def test_a_path_is_seen_where_a_result_of_an_nvidia_device_is(tmp_path: Path) -> None:
    for folder, device in (("h200", "NVIDIA H200"), ("epyc", "AMD EPYC, 2 threads")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bpr.json").write_text(json.dumps([{"device": device}]))
    lines = {line.split(" | ")[0].strip("| "): line for line in gpu_support.table(tmp_path).splitlines()}
    assert lines["SGD, BPR"].endswith("| NVIDIA H200 |") and lines["top-k with masks"].endswith("| not yet |")
