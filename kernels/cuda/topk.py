"""Top-k on the GPU: score, filter and select in one fused kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda import runtime
from shopsight.kernels.cuda.launches import Launch, make_launch
from shopsight.kernels.cuda.layout import Layout, to_device, to_float32
from shopsight.kernels.cuda.runtime import Device, Kernel

ITEMS = 64  # of a tile, as in topk.cu
_WIDE_SCORES = 2**26  # scores held at once where k is too large for lists in shared memory


def topk(
    user_factors: npt.NDArray[Any],
    item_factors: npt.NDArray[Any],
    k: int,
    exclude_indptr: npt.NDArray[Any] | None = None,
    exclude_indices: npt.NDArray[Any] | None = None,
    exclude_items: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Implement `shopsight.kernels.topk.topk`."""
    index = ItemIndex(item_factors, exclude_items)
    return index.topk(user_factors, k, exclude_indptr, exclude_indices)


class ItemIndex:
    """Item factors kept on the device, for many batches of users."""

    def __init__(self, item_factors: npt.NDArray[Any], exclude_items: npt.NDArray[Any] | None = None) -> None:
        self._device = runtime.device()
        self._layout = Layout.of(item_factors)
        self._num_items = len(item_factors)
        self._factors = to_device(self._device, self._layout, item_factors)
        self._excluded = None
        if exclude_items is not None and len(exclude_items):
            flags = np.zeros(-(-self._num_items // 32) * 32, np.uint8)
            flags[exclude_items] = 1
            words = np.packbits(flags, bitorder="little").view("<u4")
            self._excluded = self._device.xp.asarray(words.astype(np.uint32))

    def topk(
        self,
        user_factors: npt.NDArray[Any],
        k: int,
        exclude_indptr: npt.NDArray[Any] | None = None,
        exclude_indices: npt.NDArray[Any] | None = None,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return items int32 and scores float32 [users, k], best first; -1 and -inf where none is left."""
        xp = self._device.xp
        users = self.store(user_factors)
        indptr = None if exclude_indptr is None else xp.asarray(exclude_indptr, dtype=np.int64)
        indices = None if exclude_indices is None else xp.asarray(exclude_indices, dtype=np.int32)
        items, scores = self.topk_on_device(users, k, indptr, indices)
        return (items, scores) if xp is np else (items.get(), scores.get())

    def store(self, user_factors: npt.NDArray[Any]) -> Any:
        """Return user factors on the device, as `topk_on_device` takes them."""
        return to_device(self._device, self._layout, user_factors)

    def topk_on_device(self, users: Any, k: int, indptr: Any, indices: Any) -> tuple[Any, Any]:
        """Do as `topk` for stored user factors on the device; returns device arrays and does not wait."""
        xp, num_users = self._device.xp, len(users)
        num_tile_users = tile_users(self._device, self._layout, k)
        if num_tile_users is None:
            return self._wide_topk(users, k, indptr, indices)
        launch = scan_launch(self._layout, num_tile_users, k)
        groups = -(-num_users // num_tile_users)
        tiles = -(-self._num_items // ITEMS)
        # three blocks share a multiprocessor; a share of fewer than 16 tiles would mostly fill lists
        shares = max(1, min(3 * self._device.num_multiprocessors // max(1, groups), tiles // 16))
        candidates = xp.empty((shares, num_users, k), np.uint64)
        filters = (indptr, indices, self._excluded, xp.zeros(max(1, num_users), np.uint64))
        sizes = (np.int32(num_users), np.int32(self._num_items), np.int32(k))
        scan = (users, self._factors, *sizes, *filters, candidates)
        self._device.launch(launch.kernel, (groups, shares), launch.threads, launch.shared, scan)
        items, scores = xp.empty((num_users, k), np.int32), xp.empty((num_users, k), np.float32)
        merge = Kernel("topk.cu", "topk_merge", launch.kernel.defines)
        sizes = (np.int32(num_users), np.int32(shares), np.int32(k))
        self._device.launch(merge, (num_users, 1), 32, 8 * k, (candidates, *sizes, items, scores))
        return items, scores

    def _wide_topk(self, users: Any, k: int, indptr: Any, indices: Any) -> tuple[Any, Any]:
        """Handle a k of many hundreds: score some users against every item and sort."""
        xp = self._device.xp
        items = xp.empty((len(users), k), np.int32)
        scores = xp.empty((len(users), k), np.float32)
        user_factors, item_factors = (to_float32(self._layout, x) for x in (users, self._factors))
        step = max(1, _WIDE_SCORES // max(1, self._num_items))
        for begin in range(0, len(users), step):
            block = user_factors[begin : begin + step] @ item_factors.T
            if self._excluded is not None:
                bits = xp.arange(self._num_items, dtype=np.int64)
                block[:, (self._excluded[bits // 32] >> (bits % 32).astype(np.uint32)) & 1 == 1] = -np.inf
            if indptr is not None:
                entries = slice(int(indptr[begin]), int(indptr[min(begin + step, len(users))]))
                position = xp.arange(entries.start, entries.stop)
                rows = xp.searchsorted(indptr[begin + 1 :], position, side="right")
                block[rows, indices[entries]] = -np.inf
            order = xp.argsort(-block, axis=1, kind="stable")[:, :k]
            best = xp.take_along_axis(block, order, axis=1)
            scores[begin : begin + step] = best
            items[begin : begin + step] = xp.where(xp.isneginf(best), -1, order)
        return items, scores


def tile_users(device: Device, layout: Layout, k: int) -> int | None:
    """Return the users per block: the most whose lists fit in shared memory, or None if 32 do not fit."""
    fitting = [n for n in (64, 32) if scan_launch(layout, n, k).shared <= device.shared_bytes]
    return fitting[0] if fitting else None


def scan_launch(layout: Layout, num_users: int, k: int) -> Launch:
    """Return the launch of topk_scan with blocks of `num_users` users; every k uses the same code."""
    pitch = layout.padded * layout.bits // 32 + 4
    floats = num_users * pitch + max(ITEMS * pitch, num_users * (ITEMS + 1))
    launch = make_launch("topk.cu", "topk_scan", layout, 2 * num_users, floats, 112, USERS=num_users)
    return launch._replace(shared=launch.shared + num_users * (8 * k + 16))
