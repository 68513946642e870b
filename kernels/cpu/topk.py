"""Top-k on the CPU: one tile of scores at a time, kept in cache and compared with the user's k-th score."""

from __future__ import annotations

import numpy as np
from numba import njit

from shopsight.kernels.backend import resolve
from shopsight.kernels.cpu.schedule import one_blas_thread, run_balanced
from shopsight.kernels.rows import Factors, Float32, Int32, Int64

_USERS = 512  # a tile of scores is 512 users by 256 items, half a MiB: it stays in a level-2 cache
_ITEMS = 256
_PIECES_PER_THREAD = 2


def topk(
    user_factors: Factors,
    item_factors: Factors,
    k: int,
    exclude_indptr: Int64 | None,
    exclude_indices: Int32 | None,
    exclude_items: Int32 | None,
) -> tuple[Int32, Float32]:
    """Implement `shopsight.kernels.topk.topk`."""
    x, y = user_factors.astype(np.float32, copy=False), item_factors.astype(np.float32, copy=False)
    num_users, num_items = len(x), len(y)
    banned = np.unique(exclude_items) if exclude_items is not None else np.empty(0, np.int32)
    seen_indptr = exclude_indptr if exclude_indptr is not None else np.zeros(num_users + 1, np.int64)
    seen = exclude_indices if exclude_indices is not None else np.empty(0, np.int32)
    num_blocks, num_tiles = -(-num_users // _USERS), -(-num_items // _ITEMS)
    num_shares = _shares(num_blocks, num_tiles)
    ids = np.full((num_shares, num_users, k), -1, np.int32)
    scores = np.full((num_shares, num_users, k), -np.inf, np.float32)

    def task(begin: int, end: int) -> None:
        tile = np.empty((_USERS, _ITEMS), np.float32)
        for piece in range(begin, end):
            block, share = divmod(piece, num_shares)
            users = slice(block * _USERS, min((block + 1) * _USERS, num_users))
            for number in range(share * num_tiles // num_shares, (share + 1) * num_tiles // num_shares):
                first, last = number * _ITEMS, min((number + 1) * _ITEMS, num_items)
                part = np.matmul(
                    x[users], y[first:last].T, out=tile[: users.stop - users.start, : last - first]
                )
                keep_best(part, users.start, first, seen_indptr, seen, banned, ids[share], scores[share])

    with one_blas_thread():
        run_balanced(task, np.ones(num_blocks * num_shares))
    if num_shares > 1:
        merge(ids, scores)
    return ids[0], scores[0]


def _shares(num_blocks: int, num_tiles: int) -> int:
    """Return the number of shares to cut the items into, so that few users too occupy every thread."""
    pieces = _PIECES_PER_THREAD * resolve("cpu").num_threads
    return max(1, min(num_tiles, -(-pieces // max(num_blocks, 1)))) if num_blocks < pieces else 1


@njit(nogil=True, cache=True)
def merge(ids: Int32, scores: Float32) -> None:
    """Merge the best of the later shares into the first; ids and scores are [shares, users, k]."""
    num_shares, num_users, k = ids.shape
    for user in range(num_users):
        for share in range(1, num_shares):
            for place in range(k):
                if not scores[share, user, place] > scores[0, user, k - 1]:
                    break
                _insert(ids[0, user], scores[0, user], ids[share, user, place], scores[share, user, place])


@njit(nogil=True, cache=True)
def keep_best(
    tile: Float32,
    first_user: int,
    first_item: int,
    seen_indptr: Int64,
    seen: Int32,
    banned: Int32,
    ids: Int32,
    scores: Float32,
) -> None:
    """Mask the excluded items of `tile` [users, items] and merge the others into `ids` and `scores`."""
    num_items = tile.shape[1]
    k = ids.shape[1]
    banned_from = np.searchsorted(banned, first_item)
    for row in range(tile.shape[0]):
        user = first_user + row
        line = tile[row]
        for position in range(banned_from, len(banned)):
            if banned[position] >= first_item + num_items:
                break
            line[banned[position] - first_item] = -np.inf
        mine = seen[seen_indptr[user] : seen_indptr[user + 1]]
        for position in range(np.searchsorted(mine, first_item), len(mine)):
            if mine[position] >= first_item + num_items:
                break
            line[mine[position] - first_item] = -np.inf
        best_ids, best = ids[user], scores[user]
        worst = best[k - 1]
        for start in range(0, num_items, 32):
            stop = min(start + 32, num_items)
            if not _highest(line, start, stop) > worst:
                continue
            for item in range(start, stop):
                if line[item] > worst:
                    _insert(best_ids, best, first_item + item, line[item])
                    worst = best[k - 1]


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _highest(line: Float32, start: int, stop: int) -> np.float32:
    """Return the maximum of line[start:stop]; it has no NaN, which lets the compiler use vector code."""
    highest = np.float32(-np.inf)
    for item in range(start, stop):
        highest = max(highest, line[item])
    return highest


@njit(nogil=True, cache=True)
def _insert(best_ids: Int32, best: Float32, item: int, score: float) -> None:
    """Insert an item into a descending list; items come in ascending order, so that ties go behind."""
    place = len(best) - 1
    while place > 0 and best[place - 1] < score:
        best[place] = best[place - 1]
        best_ids[place] = best_ids[place - 1]
        place -= 1
    best[place] = score
    best_ids[place] = item
