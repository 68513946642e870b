"""The process group of a fit: that of the launcher, or one of this process alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from shopsight.kernels.backend import resolve
from shopsight.training.data.column_files import Share


@dataclass(frozen=True)
class Group:
    """The workers of a fit and the device of this one."""

    share: Share
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the first worker, which writes files."""
        return self.share.rank == 0

    def barrier(self) -> None:
        """Wait for the others."""
        if self.share.num_workers > 1:
            dist.barrier()

    def from_first(self, value: Any) -> Any:
        """Return the value of the first worker, plain data."""
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def first_alone(self, work: Callable[[], Any]) -> Any:
        """Return what the first worker's `work` returns, plain data; what it raises, every worker raises."""
        result, problem = None, None
        if self.is_first:
            try:
                result = work()
            except Exception as error:  # the others wait for a word, whatever went wrong
                problem = error
        result, problem = self.from_first((result, problem))
        if problem is not None:
            raise problem
        return result

    def total(self, values: list[float]) -> list[float]:
        """Add up float64 values over the workers."""
        summed = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return [float(value) for value in summed]

    def gathered(self, rows: Tensor, sizes: list[int]) -> Tensor:
        """Return the rows of all workers in order, [sum(sizes), d]; gradients flow back.

        sizes: rows of each worker; they need not be equal.
        """
        if self.share.num_workers == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self.share.rank, sizes)  # type: ignore[no-untyped-call]
        return gathered


ALONE = Group(Share(), torch.device("cpu"))  # for what one process does with whole tables


@contextmanager
def process_group() -> Iterator[Group]:
    """Yield the group that this process belongs to; one is made, and ended again, where there is none."""
    on_gpu = resolve().name == "cuda"
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    own = not dist.is_initialized()
    if own:
        backend = "nccl" if on_gpu else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        yield Group(Share(dist.get_rank(), dist.get_world_size()), device)
    finally:
        if own:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, sizes: list[int]) -> Tensor:
        ctx.bounds = sum(sizes[:rank]), sum(sizes[: rank + 1])
        padded = rows.new_zeros((max(sizes), rows.shape[1]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        begin, end = ctx.bounds
        return gradient[begin:end], None, None
