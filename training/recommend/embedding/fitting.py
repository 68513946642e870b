"""The training loop, the same in one process, in several on CPUs (gloo) and on GPUs (NCCL).

The batch of a step is split among the workers, so that their number changes neither the steps nor their
examples, but only the order in which sums are added.
"""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.optimizers import in_backward_optimizer_filter

from shopsight.serving.progress import Advance, Progress, counted, silent
from shopsight.training.artifacts.locks import exclusive
from shopsight.training.data.column_files import Int64, Order
from shopsight.training.recommend.embedding import checkpoint
from shopsight.training.recommend.embedding.checkpoint import Position
from shopsight.training.recommend.embedding.config import LoopConfig
from shopsight.training.recommend.embedding.group import Group, process_group
from shopsight.training.recommend.embedding.quiet import quiet
from shopsight.training.recommend.embedding.sharding import sharded, tables_optimizer


class Task(Protocol):
    """A model to fit and its examples.

    fingerprint: what must be equal for a checkpoint to be resumed, JSON-ready. num_examples: number of
    examples of an epoch.
    """

    name: str
    fingerprint: dict[str, Any]
    num_examples: int

    def build(self) -> nn.Module:
        """Return a new model with its tables on the meta device."""

    def loss(self, model: nn.Module, examples: Int64, key: tuple[int, ...], group: Group) -> Tensor:
        """Return the summed loss of this worker's share of a step's examples, times workers / examples.

        Its mean over the workers is the mean over the examples, and so for the gradients. Random numbers may
        depend on `key` (seed, epoch, step) alone.
        """

    def validate(self, model: nn.Module, group: Group) -> dict[str, float]:
        """Return held-out figures, the decisive one first, higher is better; {} without any. Collective."""


@dataclass(frozen=True)
class EpochReport:
    """The result of an epoch; `loss` is the mean over its examples."""

    fit: str
    epoch: int
    step: int
    loss: float
    seconds: float
    examples_per_second: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Fitted:
    """The folder of a fit's checkpoints, and its epochs."""

    folder: Path
    reports: tuple[EpochReport, ...]

    @property
    def best_epochs(self) -> int:
        """The number of epochs with the best decisive figure; all of them without validation."""
        figures = [next(iter(report.metrics.values()), 0.0) for report in self.reports]
        return figures.index(max(figures)) + 1 if any(figures) else len(figures)


def fit(
    task: Task,
    config: LoopConfig,
    folder: Path,
    *,
    progress: Progress = lambda _: None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    on_checkpoint: Callable[[Path, int], None] = lambda _, __: None,
) -> Fitted:
    """Fit a task, resuming from the last good checkpoint in `folder`; called by every worker of a group.

    Without a process group it creates one of this process alone. An interrupted fit that resumes with the
    same number of workers gives bit-identical results. Raises CheckpointMismatch and CheckpointDamaged
    (checkpoint.py), Busy when another process fits in the folder.
    """
    with process_group() as group, quiet(), ExitStack() as stack:
        lock = exclusive(folder / ".fit.lock", "a fit")
        group.first_alone(lambda: stack.enter_context(lock))
        run = _Run(task, config, folder, group, progress)
        with counted(run.progress, task.name, run.num_steps) as advance:
            advance(run.position.total_steps)
            while not run.done:
                run.epoch(on_epoch, on_checkpoint, advance)
        return Fitted(folder, tuple(EpochReport(**report) for report in run.position.reports))


class _Run:
    def __init__(
        self, task: Task, config: LoopConfig, folder: Path, group: Group, progress: Progress
    ) -> None:
        self._task, self._config, self._folder, self._group = task, config, folder, group
        self.progress: Progress = progress if group.is_first else silent
        self._fingerprint = task.fingerprint | decisive(config)
        torch.manual_seed(config.seed)
        self._model = sharded(task.build(), config, group.device)
        self._dense, self._state = _optimizer(self._model, config)
        self.position = checkpoint.restore(folder, self._state, self._fingerprint, group, self.progress)
        for state in self._dense.state.values():
            state["step"].fill_(float(self.position.total_steps))
        if self.position.total_steps:
            self.progress(f"{task.name}: goes on after step {self.position.total_steps}")

    @property
    def num_steps(self) -> int:
        """The steps of all epochs, if patience does not run out before."""
        config = self._config
        order = Order(self._task.num_examples, config.batch_size, config.seed, 0)
        return config.epochs * order.num_steps

    @property
    def done(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        if self.position.epoch >= self._config.epochs:
            return True
        reports = self.position.reports
        figures = [next(iter(one["metrics"].values())) for one in reports if one["metrics"]]
        if not self._config.patience or not figures:
            return False
        return len(figures) - 1 - figures.index(max(figures)) >= self._config.patience

    def epoch(
        self,
        on_epoch: Callable[[EpochReport], None],
        on_checkpoint: Callable[[Path, int], None],
        advance: Advance,
    ) -> None:
        """Run an epoch, or the rest of it, then validate, report and write a checkpoint."""
        config, began, first = self._config, time.monotonic(), self.position.step
        order = Order(self._task.num_examples, config.batch_size, config.seed, self.position.epoch)
        total = self._own_loss()
        for step in range(first, order.num_steps):
            total += self._step(order.batch(step), step)
            advance(1)
            done, every = step + 1, config.checkpoint_steps
            if every and done % every == 0 and done < order.num_steps:
                self._advance(self.position.epoch, done, total)
                on_checkpoint(self._save(), self.position.total_steps)
        seconds = time.monotonic() - began
        report = EpochReport(
            fit=self._task.name,
            epoch=self.position.epoch + 1,
            step=self.position.total_steps + order.num_steps - self.position.step,
            loss=self._group.total([float(total)])[0] / self._group.share.num_workers / order.num_steps,
            seconds=seconds,
            examples_per_second=self._task.num_examples * (1 - first / order.num_steps) / max(seconds, 1e-9),
            metrics=self._task.validate(self._model, self._group),
        )
        self._end_epoch(report)
        on_epoch(report)
        on_checkpoint(self._save(), self.position.total_steps)

    def _step(self, examples: Int64, step: int) -> Tensor:
        self._dense.zero_grad()
        key = (self._config.seed, self.position.epoch, step)
        loss = self._task.loss(self._model, examples, key, self._group)
        loss.backward()  # type: ignore[no-untyped-call]
        self._dense.step()
        return loss.detach().double()

    def _own_loss(self) -> Tensor:
        """Return this worker's losses of a resumed epoch; with other workers the first gets all."""
        share, sums = self._group.share, self.position.loss_sums
        if len(sums) == share.num_workers:
            mine = sums[share.rank]
        else:
            mine = sum(sums) / max(len(sums), 1) * share.num_workers if share.rank == 0 else 0.0
        return torch.tensor(mine, dtype=torch.float64, device=self._group.device)

    def _advance(self, epoch: int, step: int, total: Tensor) -> None:
        share = self._group.share
        sums = [0.0] * share.num_workers
        sums[share.rank] = float(total)
        self.position = replace(
            self.position,
            epoch=epoch,
            step=step,
            total_steps=self.position.total_steps + step - self.position.step,
            loss_sums=tuple(self._group.total(sums)),
        )

    def _end_epoch(self, report: EpochReport) -> None:
        self.position = Position(
            epoch=self.position.epoch + 1,
            total_steps=report.step,
            reports=(*self.position.reports, asdict(report)),
        )
        self.position = replace(self.position, complete=self.done)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in report.metrics.items())
        self.progress(
            f"{report.fit} epoch {report.epoch}: loss {report.loss:.4f}"
            f"{', ' * bool(figures)}{figures}, {report.examples_per_second:,.0f} examples/s"
        )

    def _save(self) -> Path:
        return checkpoint.save(self._folder, self._state, self.position, self._fingerprint, self._group)


def decisive(config: LoopConfig) -> dict[str, Any]:
    """Return the settings that a checkpoint must share; length, saving and sharding may differ."""
    free = ("epochs", "patience", "checkpoint_steps", "sharding")
    return {name: value for name, value in asdict(config).items() if name not in free}


def _optimizer(
    model: DistributedModelParallel, config: LoopConfig
) -> tuple[torch.optim.Adam, checkpoint.State]:
    """Return Adam for the parameters outside of tables, and all tensors of a checkpoint by name."""
    rest = dict(in_backward_optimizer_filter(model.named_parameters()))
    dense = torch.optim.Adam(rest.values(), lr=config.learning_rate)
    state: checkpoint.State = {checkpoint.MODEL + name: t for name, t in model.state_dict().items()}
    for name, parameter in rest.items():
        moments = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
        dense.state[parameter] = {"step": torch.tensor(0.0), **moments}
        state |= {f"dense.{name}.{kind}": moment for kind, moment in moments.items()}
    for table, tensors in tables_optimizer(model).state_dict()["state"].items():
        state |= {f"tables.{table}.{kind}": tensor for kind, tensor in tensors.items()}
    return dense, state
