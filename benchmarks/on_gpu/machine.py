"""The GPU as the benchmarks see it, and what it can do at most, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

ROUNDS = 20


@dataclass(frozen=True)
class Gpu:
    """`xp` is cupy, `torch_device` where torch works, `wait` returns when all that was started is done."""

    xp: Any
    torch_device: str
    wait: Callable[[], None]


class Limits(NamedTuple):
    """Bytes read and written a second by a copy; operations a second of a float32 and of a bfloat16 GEMM."""

    copy_bytes: float
    float32_flops: float
    tensor_flops: float


def current() -> Gpu:
    """The GPU that the cuda backend uses."""
    import cupy

    return Gpu(cupy, "cuda", cupy.cuda.Device().synchronize)


def measure(gpu: Gpu, size: int = 8192, copied_bytes: int = 2**32) -> Limits:
    """The best of several runs each, through torch: a copy, and square products of `size`."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.ones(copied_bytes // 4, device=gpu.torch_device)
    target = torch.empty_like(source)
    copy_seconds = _best(gpu, lambda: target.copy_(source))
    flops = []
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn((size, size), device=gpu.torch_device).to(dtype)
        product = torch.empty_like(a)
        flops.append(2 * size**3 / _best(gpu, lambda a=a, product=product: torch.mm(a, a, out=product)))
    return Limits(2 * copied_bytes / copy_seconds, *flops)


def _best(gpu: Gpu, run: Callable[[], Any], runs: int = 5) -> float:
    run()
    times = []
    for _ in range(runs):
        gpu.wait()
        start = time.perf_counter()
        run()
        gpu.wait()
        times.append(time.perf_counter() - start)
    return min(times)


def implicit_gpu() -> Any:
    """implicit's GPU module, or None where it (or rmm, which it needs) is not there or finds no device."""
    try:
        import implicit.gpu as module
    except ImportError:
        return None
    return module if getattr(module, "HAS_CUDA", False) else None
