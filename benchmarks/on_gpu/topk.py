"""Top-10 on the GPU against torch's product and topk, with seen items masked, beside the bare products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.datasets import zipf_interactions
from benchmarks.on_gpu.machine import ROUNDS, Gpu, Limits, current, implicit_gpu, measure
from benchmarks.runner import Report, interleave

SHAPES = ((1024, 1_000_000, 128), (10_000, 20_000, 64), (32, 1_000_000, 128))
STORAGES = ("float32", "bfloat16")
RATIO_WANTED = 2.5  # against torch, of the first shape


def run(report: Report, gpu: Gpu | None = None, shapes: Any = SHAPES, limits: Limits | None = None) -> None:
    """Each shape; users, items and masks lie on the device for every variant."""
    gpu = gpu or current()
    limits = limits or measure(gpu)
    for num_users, num_items, num_factors in shapes:
        for storage in STORAGES:
            compare(report, gpu, (num_users, num_items, num_factors), storage, limits)


def compare(report: Report, gpu: Gpu, shape: tuple[int, int, int], storage: str, limits: Limits) -> None:
    """Rows of one shape and storage; torch works in the same type."""
    num_users, num_items, num_factors = shape
    random = np.random.default_rng(0)
    dtype = np.dtype(ml_dtypes.bfloat16 if storage == "bfloat16" else storage)
    x, y = (random.standard_normal((n, num_factors), dtype=np.float32).astype(dtype) for n in shape[:2])
    seen = zipf_interactions(num_users, num_items, 10 * num_users)
    variants: dict[str, Callable[[], Any]] = {
        "ours": our_topk(gpu, x, y, seen),
        "torch matmul + topk": torch_topk(gpu, x, y, seen),
        "gemm alone (bound)": torch_gemm(gpu, x, y),
    }
    if storage == "float32" and (module := implicit_gpu()) is not None:
        variants["implicit (gpu, through the host)"] = implicit_topk(module, x, y, seen)
    ours, theirs = (_host(variants[name]()) for name in ("ours", "torch matmul + topk"))
    seconds = interleave(variants, repeats=ROUNDS, budget_seconds=20, wait=gpu.wait)
    case = f"{num_users} users x {num_items} items x {num_factors}, top-10 {storage}"
    details = {"rounds": len(seconds["ours"]), "same_items_as_torch": float(np.mean(ours == theirs))}
    for peer in variants:
        if peer != "ours":
            wanted = {"wanted": RATIO_WANTED} if shape == SHAPES[0] and "torch" in peer else {}
            report.add_times(case, peer, seconds["ours"], seconds[peer], **wanted, **details)
    moved = (num_users + num_items) * num_factors * dtype.itemsize + 12 * seen.nnz
    operations = 2.0 * num_users * num_items * num_factors
    floor = max(moved / limits.copy_bytes, operations / limits.tensor_flops)
    report.add_times(
        case,
        "floor: copy and gemm of this run",
        seconds["ours"],
        [floor] * len(seconds["ours"]),
        metric="share of the floor",
        bytes=moved,
        tensor_operations=operations,
        **limits._asdict(),
        **details,
    )


def _host(items: Any) -> Any:
    return (
        items
        if isinstance(items, np.ndarray)
        else (items.get() if hasattr(items, "get") else items.cpu().numpy())
    )


def our_topk(gpu: Gpu, x: Any, y: Any, seen: Any) -> Callable[[], Any]:
    """Our kernel between device arrays."""
    from shopsight.kernels.cuda.topk import ItemIndex

    index = ItemIndex(y)
    users = index.store(x)
    indptr, indices = (
        gpu.xp.asarray(seen.indptr.astype(np.int64)),
        gpu.xp.asarray(seen.indices.astype(np.int32)),
    )
    return lambda: index.topk_on_device(users, 10, indptr, indices)[0]


def _to_torch(gpu: Gpu, factors: Any) -> Any:
    import torch

    dtype = torch.bfloat16 if factors.dtype.name == "bfloat16" else torch.float32
    return torch.from_numpy(factors.astype(np.float32)).to(gpu.torch_device).to(dtype)


def torch_topk(gpu: Gpu, x: Any, y: Any, seen: Any) -> Callable[[], Any]:
    """A product, seen items to minus infinity, torch.topk: in blocks of 1,024 users."""
    import torch

    users, items = _to_torch(gpu, x), _to_torch(gpu, y).T
    row_of = np.repeat(np.arange(len(x)), np.diff(seen.indptr))
    masks = []
    for begin in range(0, len(x), 1024):
        part = slice(seen.indptr[begin], seen.indptr[min(begin + 1024, len(x))])
        pairs = row_of[part] - begin, seen.indices[part].astype(np.int64)
        masks.append(tuple(torch.from_numpy(p).to(gpu.torch_device) for p in pairs))

    def select() -> Any:
        found = []
        for number, mask in enumerate(masks):
            scores = users[number * 1024 : (number + 1) * 1024] @ items
            scores[mask] = -torch.inf
            found.append(torch.topk(scores, 10).indices)
        return torch.cat(found)

    return select


def torch_gemm(gpu: Gpu, x: Any, y: Any) -> Callable[[], Any]:
    """The scores alone, written but not looked at; blocks of 1,024 users."""
    users, items = _to_torch(gpu, x), _to_torch(gpu, y).T
    return lambda: [users[begin : begin + 1024] @ items for begin in range(0, len(users), 1024)][-1]


def implicit_topk(module: Any, x: Any, y: Any, seen: Any) -> Callable[[], Any]:
    """implicit's `recommend`, which takes and returns host arrays."""
    from implicit.gpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(factors=x.shape[1])
    model.user_factors, model.item_factors = module.Matrix(x), module.Matrix(y)
    users = np.arange(len(x))
    return lambda: model.recommend(users, seen, N=10, filter_already_liked_items=True)[0]
