"""Any family's training as a job: the same call as in this process, on a cluster's workers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from shopsight.serving.progress import Progress
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.jobs.cluster import Resources
from shopsight.training.jobs.errors import JobError
from shopsight.training.jobs.launch import on_all_workers, on_one_worker
from shopsight.training.pipeline import steps
from shopsight.training.pipeline.families import named
from shopsight.training.pipeline.recipes import Recipe

_UNPACKED = (
    "runtime_resources"  # the folder under which Ray unpacks --working-dir, and deletes it with the job
)


def train(
    ray: Any, resources: Resources, workspace: Workspace, recipe: Recipe, family: str, progress: Progress
) -> dict[str, Any]:
    """Train one family on the connected cluster; returns its figures, as `steps.train` does.

    Raises JobError if a worker does not reach the workspace.
    """
    where = reachable(workspace)
    each = f"{resources.cpus_per_worker} CPU{'s' * (resources.cpus_per_worker > 1)}"
    each += " and a GPU" * resources.use_gpu
    if not named(family).data_parallel:
        progress(f"{family}: one worker of {each}, as it is not data-parallel")
        return on_one_worker(ray, resources, _train, where, recipe, family, progress=progress)
    progress(f"{family}: {resources.num_workers} workers of {each}")
    storage = Path(where) / "jobs" / family
    return on_all_workers(ray, resources, _train, where, recipe, family, progress=progress, storage=storage)


def reachable(workspace: Workspace) -> str:
    """Return the workspace's absolute path; raises JobError if Ray would delete it with the job."""
    root = workspace.root.absolute()
    if _UNPACKED in root.parts:
        raise JobError(
            f"--workspace {workspace.root} lies in the job's own copy of the working directory, which Ray "
            "deletes; give an absolute path on a filesystem that every node mounts"
        )
    return str(root)


def _train(root: str, recipe: Recipe, family: str, say: Progress) -> dict[str, Any]:
    workspace = Workspace(Path(root))
    if not workspace.tables.is_dir():
        raise JobError(
            f"a worker on {os.uname().nodename} finds no tables at {workspace.tables}: put the workspace on "
            "a filesystem that every node mounts under the same path"
        )
    return steps.train(workspace, recipe, family, say)
