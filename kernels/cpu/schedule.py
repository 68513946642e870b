"""Work shared out by its cost, not by its rows: skewed data leaves no thread waiting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from kernels.backend import resolve

_CHUNKS_PER_THREAD = 16


def run_balanced(task: Callable[[int, int], None], costs: np.ndarray[Any, Any]) -> None:
    """Call `task(begin, end)` over all rows, on every thread, in pieces of about equal cost.

    The task must let go of the GIL (numba's nogil, NumPy's matmul); the costliest piece starts first.
    Python's threads are used because numba's own pool does not survive a fork.
    """
    num_threads = resolve("cpu").num_threads
    total = np.cumsum(costs, dtype=np.float64)
    if not len(total):
        return
    wanted = np.linspace(0, total[-1], num_threads * _CHUNKS_PER_THREAD + 1)[1:-1]
    cuts = np.unique(np.concatenate([[0], np.searchsorted(total, wanted), [len(total)]]))
    pieces = sorted(
        pairwise(cuts),
        key=lambda piece: float(total[piece[1] - 1] - (total[piece[0] - 1] if piece[0] else 0)),
        reverse=True,
    )
    if num_threads == 1:
        for piece in pieces:
            task(int(piece[0]), int(piece[1]))
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(task, int(begin), int(end)) for begin, end in pieces]:
            done.result()


def one_blas_thread() -> Any:
    """A context in which each of our threads calls BLAS alone, as `matmul` inside a task needs."""
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through every loaded library, which takes milliseconds
