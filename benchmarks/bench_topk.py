"""Top-10 of many users with seen items masked, against implicit, torch, faiss and the bare GEMM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.datasets import zipf_interactions
from benchmarks.runner import Report, interleave
from shopsight.kernels.backend import resolve
from shopsight.kernels.topk import topk

SHAPES = ((10_000, 20_000, 64), (1024, 200_000, 128), (64, 20_000, 64))


def run(report: Report) -> None:
    """Each shape against every peer that is installed; on a GPU the shapes of benchmarks/on_gpu."""
    if resolve().name == "cuda":
        from benchmarks.on_gpu import topk as on_gpu

        return on_gpu.run(report)
    for num_users, num_items, num_factors in SHAPES:
        compare(report, num_users, num_items, num_factors)


def compare(report: Report, num_users: int, num_items: int, num_factors: int) -> None:
    """Rows of one shape. faiss cannot mask per user, the GEMM ranks nothing: both are bounds."""
    random = np.random.default_rng(0)
    x = random.standard_normal((num_users, num_factors), dtype=np.float32)
    y = random.standard_normal((num_items, num_factors), dtype=np.float32)
    seen = zipf_interactions(num_users, num_items, 10 * num_users)
    indptr, indices = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: topk(x, y, 10, exclude_indptr=indptr, exclude_indices=indices),
        "implicit": implicit_topk(x, y, seen),
        "torch matmul + topk": torch_topk(x, y, seen),
        "gemm alone (bound)": lambda: x @ y.T,
    }
    if (search := faiss_search(x, y)) is not None:
        variants["faiss flat (no mask, bound)"] = search
    else:
        report.say("faiss-cpu is not installed: left out")
    ours, theirs = variants["ours"]()[0], variants["torch matmul + topk"]()
    agreement = float(np.mean(ours == theirs))
    seconds = interleave(variants, budget_seconds=120)
    for peer in variants:
        if peer != "ours":
            report.add_times(
                f"{num_users} users x {num_items} items x {num_factors}, top-10",
                peer,
                seconds["ours"],
                seconds[peer],
                rounds=len(seconds["ours"]),
                same_items_as_torch=agreement,
            )


def implicit_topk(x: Any, y: Any, seen: Any) -> Callable[[], Any]:
    """implicit's own batched selection, with its filter of each user's items."""
    from implicit.cpu.topk import topk as implicit_select

    threads = resolve("cpu").num_threads
    return lambda: implicit_select(y, x, 10, filter_query_items=seen, num_threads=threads)


def torch_topk(x: Any, y: Any, seen: Any) -> Callable[[], Any]:
    """A matrix product, seen items to minus infinity, torch.topk: in blocks of 1,024 users."""
    import torch

    torch.set_num_threads(resolve("cpu").num_threads)
    users, items = torch.from_numpy(x), torch.from_numpy(y).T
    row_of = np.repeat(np.arange(len(x)), np.diff(seen.indptr))
    masks = []
    for begin in range(0, len(x), 1024):
        part = slice(seen.indptr[begin], seen.indptr[min(begin + 1024, len(x))])
        masks.append(
            (torch.from_numpy(row_of[part] - begin), torch.from_numpy(seen.indices[part].astype(np.int64)))
        )

    def select() -> Any:
        found = []
        for number, mask in enumerate(masks):
            scores = users[number * 1024 : (number + 1) * 1024] @ items
            scores[mask] = -torch.inf
            found.append(torch.topk(scores, 10).indices)
        return torch.cat(found).numpy()

    return select


def faiss_search(x: Any, y: Any) -> Callable[[], Any] | None:
    """An exact inner-product search over all items; None where faiss is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    faiss.omp_set_num_threads(resolve("cpu").num_threads)
    index = faiss.IndexFlatIP(y.shape[1])
    index.add(y)
    return lambda: index.search(x, 10)
