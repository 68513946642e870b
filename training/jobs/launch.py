"""Runs a training on a cluster's workers, and resumes it after some of them died."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from shopsight.kernels import threads
from shopsight.kernels.backend import BACKEND_VARIABLE
from shopsight.serving.progress import Progress, silent
from shopsight.training.jobs.cluster import Resources, require_room
from shopsight.training.jobs.errors import explained, is_death, root_cause
from shopsight.training.jobs.lines import heard

Result = TypeVar("Result")


def on_one_worker(
    ray: Any, resources: Resources, work: Callable[..., Result], *arguments: Any, progress: Progress
) -> Result:
    """Run `work(*arguments, say)` in one remote worker and return what it returns.

    The worker has `resources.cpus_per_worker` threads and, if requested, one GPU; `num_workers` is not used.
    Raises JobError: at once if `work` raises, after `max_restarts` restarts if workers die.
    """
    alone = Resources(1, resources.cpus_per_worker, resources.use_gpu, resources.address)
    require_room(ray, alone)
    remote = ray.remote(
        num_cpus=alone.cpus_per_worker,
        num_gpus=int(alone.use_gpu),
        max_retries=0,
        max_calls=1,
        runtime_env={"env_vars": environment(alone)},
    )(work)
    with heard(progress) as say:

        def attempt() -> Result:
            result: Result = ray.get(remote.remote(*arguments, say))
            return result

        return _persistently(attempt, resources.max_restarts, progress)


def on_all_workers(
    ray: Any,
    resources: Resources,
    work: Callable[..., Result],
    *arguments: Any,
    progress: Progress,
    storage: Path,
) -> Result:
    """Run `work(*arguments, say)` in every worker of a process group; returns what rank 0 returns.

    torch.distributed is initialised: gloo on CPUs, NCCL on GPUs (Ray Train's TorchTrainer). `work` must
    resume from its last checkpoint when it is called again. `storage` is a folder that every node reaches;
    Ray keeps a marker in it while the job runs. Raises JobError as `on_one_worker` does.
    """
    # By name, as Ray's annotations show an interface that it has replaced.
    ray_train: Any = importlib.import_module("ray.train")
    ray_torch: Any = importlib.import_module("ray.train.torch")

    def attempt() -> Result:
        require_room(ray, resources)
        trainer = ray_torch.TorchTrainer(
            _in_group,
            train_loop_config={"work": work, "arguments": arguments, "say": say},
            scaling_config=ray_train.ScalingConfig(
                num_workers=resources.num_workers,
                use_gpu=resources.use_gpu,
                resources_per_worker={"CPU": resources.cpus_per_worker}
                | ({"GPU": 1} if resources.use_gpu else {}),
            ),
            run_config=ray_train.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent),
                worker_runtime_env={"env_vars": environment(resources)},
            ),
        )
        result: Result = trainer.fit().return_value
        return result

    try:
        with heard(progress) as say:
            return _persistently(attempt, resources.max_restarts, progress)
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def _persistently(attempt: Callable[[], Result], max_restarts: int, progress: Progress) -> Result:
    for restart in range(max_restarts + 1):
        try:
            return attempt()
        except Exception as error:  # Ray's own types, and whatever a training raises
            if not is_death(error) or restart == max_restarts:
                raise explained(error) from error
            kind = type(root_cause(error)).__name__
            progress(
                f"a worker died ({kind}): restart {restart + 1} of {max_restarts}, from the last checkpoint"
            )
    raise AssertionError("unreachable")


def environment(resources: Resources) -> dict[str, str]:
    """Return environment variables that limit a worker to its assigned CPUs and GPU."""
    return {
        **threads.environment(resources.cpus_per_worker),
        BACKEND_VARIABLE: "cuda" if resources.use_gpu else "cpu",
    }


def _in_group(config: dict[str, Any]) -> Any:
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    say: Progress = config["say"] if rank == 0 else silent
    return config["work"](*config["arguments"], say)
