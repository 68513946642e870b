"""The order in which a pass of gradient descent visits the interactions, the same on every backend.

Every pass partitions users and items at random into NUM_GROUPS groups each. In phase p the users of group g
are trained on the items of group (g + p) mod NUM_GROUPS. No two groups of a phase share a user or an item, so
that threads need no locks and the result does not depend on their number (Gemulla et al., 2011).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
NUM_GROUPS = 8
_RUN = 32  # this many neighbouring users stay together, because their data are adjacent in memory


class Partition(NamedTuple):
    """users, items: int32, by group, group g at [begin[g], begin[g + 1]); item_group: int8 [items]."""

    users: Array
    user_begin: Array
    items: Array
    item_begin: Array
    item_group: Array


def draw_partition(num_users: int, num_items: int, seed: int, epoch: int, min_items: int = 0) -> Partition:
    """Return the groups of one pass, which depend on the seed and the epoch alone.

    Each group of items that is not empty has at least `min_items` items, or all; the last ones may be empty.
    """
    random = np.random.default_rng([seed, epoch])
    runs = random.permutation(-(-num_users // _RUN))
    users = (runs[:, None] * _RUN + np.arange(_RUN)).ravel()
    users = users[users < num_users].astype(np.int32)
    items = random.permutation(num_items).astype(np.int32)
    num_filled = NUM_GROUPS if not min_items else min(NUM_GROUPS, max(1, num_items // min_items))
    groups = np.arange(NUM_GROUPS + 1)
    user_begin = (groups * num_users // NUM_GROUPS).astype(np.int64)
    item_begin = (np.minimum(groups, num_filled) * num_items // num_filled).astype(np.int64)
    item_group = np.empty(num_items, np.int8)
    for group in range(NUM_GROUPS):
        item_group[items[item_begin[group] : item_begin[group + 1]]] = group
    return Partition(users, user_begin, items, item_begin, item_group)


def visits(partition: Partition, indptr: Array, indices: Array) -> Any:
    """Yield (user, position of the interaction, group of items) in the order of the pass."""
    for phase in range(NUM_GROUPS):
        for group in range(NUM_GROUPS):
            wanted = (group + phase) % NUM_GROUPS
            for user in partition.users[partition.user_begin[group] : partition.user_begin[group + 1]]:
                for position in range(indptr[user], indptr[user + 1]):
                    if partition.item_group[indices[position]] == wanted:
                        yield user, position, wanted
