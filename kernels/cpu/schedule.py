"""Split work among threads by its cost instead of its number of rows, for skewed data."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from shopsight.kernels.backend import resolve

Array = np.ndarray[Any, Any]
Task = Callable[[int, int], None]
_CHUNKS_PER_THREAD = 16


def run_balanced(task: Task, costs: Array) -> None:
    """Call `task(begin, end)` over all rows, on all threads, in pieces of about equal cost.

    The task must release the GIL (numba's nogil, NumPy's matmul). Python threads are used because numba's
    thread pool does not survive a fork.
    """
    run_together([(task, costs)])


def run_together(work: list[tuple[Task, Array]]) -> None:
    """Do as `run_balanced` for several tasks at once, costs in one unit; the costliest pieces start first."""
    if sum(len(costs) for _, costs in work) == 1:  # one row, as in an online request: start no threads
        for task, costs in work:
            if len(costs):
                task(0, 1)
        return
    num_threads = resolve("cpu").num_threads
    share = sum(float(costs.sum(dtype=np.float64)) for _, costs in work) / (num_threads * _CHUNKS_PER_THREAD)
    pieces = [(cost, task, begin, end) for task, costs in work for cost, begin, end in _cut(costs, share)]
    pieces.sort(key=lambda piece: piece[0], reverse=True)
    if num_threads == 1 or len(pieces) == 1:
        for _, task, begin, end in pieces:
            task(begin, end)
        return
    with ThreadPoolExecutor(num_threads) as pool:
        for done in [pool.submit(task, begin, end) for _, task, begin, end in pieces]:
            done.result()


def _cut(costs: Array, share: float) -> list[tuple[float, int, int]]:
    """Return (cost, begin, end) of pieces that cost about `share` each."""
    if not len(costs):
        return []
    total = np.concatenate([[0.0], np.cumsum(costs, dtype=np.float64)])
    wanted = np.arange(1, total[-1] // max(share, 1e-300) + 1) * share
    inner = np.searchsorted(total, wanted[wanted < total[-1]])
    cuts = np.unique(np.concatenate([[0], inner, [len(costs)]]))
    return [(float(total[end] - total[begin]), int(begin), int(end)) for begin, end in pairwise(cuts)]


def one_blas_thread() -> Any:
    """Return a context in which BLAS calls use one thread, as `matmul` inside a task needs."""
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # inspects every loaded library, which takes milliseconds
