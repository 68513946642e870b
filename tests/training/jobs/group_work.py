"""Two towers on a tiny shop of tastes as a job, and what may befall it."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.fitting import fit
from tests.training.recommend.embedding.small import CONFIG, task, ways

ROWS = ways(CONFIG, "row_wise", checkpoint_steps=3)
CUT_AFTER = 13  # steps of thirty, ten an epoch


def two_towers(root: str, name: str, fault: str, say: Callable[[str], None]) -> list[float]:
    """Fit in `root`/`name` and return the figures of the epochs.

    fault: "" for none; "kill" ends the last worker by SIGKILL after CUT_AFTER steps, once; "disk" is full
    then; "hold 6" stays at the first checkpoint of six steps or more, so that somebody else ends it.
    """
    folder = Path(root) / name

    def meet(_: Path, step: int) -> None:
        if fault.startswith("hold") and step >= int(fault.split()[1]):
            threading.Event().wait()
        if step < CUT_AFTER or dist.get_rank() != dist.get_world_size() - 1:
            return
        if fault == "kill" and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "disk":
            (folder / f"met-{time.monotonic_ns()}").touch()
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    examples = Examples.open(Path(root) / "data")
    fitted = fit(task(examples, ROWS), ROWS.loop, folder, progress=say, on_checkpoint=meet)
    return [report.metrics["ndcg_at_5"] for report in fitted.reports]


def without_ray(root: Path) -> None:
    """The same fit in a plain process group; leaves its checkpoints alone."""
    two_towers(str(root), "plain", "", lambda _: None)
