"""What the machine can do at most, measured beside what is benchmarked."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# implicit asks for one BLAS thread per worker, and warns about anything else
os.environ.setdefault("IMPLICIT_DISABLE_WARNINGS", "1")


def gemm_flops() -> float:
    """Operations a second of a float32 GEMM of 2,048, all threads; the best of three."""
    a = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    return 2 * 2048**3 / _best(lambda: a @ a)


def copy_bytes() -> float:
    """Bytes read and written a second by a copy of 256 MiB; the best of three."""
    source = np.ones(2**25)
    target = np.empty_like(source)
    return 2 * source.nbytes / _best(lambda: np.copyto(target, source))


def _best(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
