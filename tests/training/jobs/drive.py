"""Fits the two towers on a cluster of its own: `python -m tests.training.jobs.drive ROOT [STEPS]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shopsight.training.jobs.cluster import Resources, connected
from shopsight.training.jobs.launch import on_all_workers
from tests.training.jobs.group_work import two_towers


def main(root: str, steps: str = "") -> None:
    """Print what is said, then the figures as JSON; hold at the first checkpoint of `steps` steps or more."""
    with connected("local") as ray:
        figures = on_all_workers(
            ray, Resources(2), two_towers, root, "driven", f"hold {steps}" if steps else "",
            progress=lambda line: print(line, flush=True), storage=Path(root) / "jobs" / "driven",
        )  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
