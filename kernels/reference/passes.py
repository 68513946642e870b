"""The order in which one pass of gradient descent takes the interactions, the same for every body.

Users and items are each dealt into NUM_GROUPS groups, anew for every pass. In phase p the users of group g
meet the items of group (g + p) mod NUM_GROUPS: no two groups share a user or an item, so that threads need
neither locks nor luck and the result does not depend on their number (Gemulla et al. 2011).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
NUM_GROUPS = 8
_RUN = 32  # neighbours stay together: their interactions and factors lie side by side in memory


class Deal(NamedTuple):
    """users, items: int32, dealt order, group g at [begin[g], begin[g + 1]); item_group: int8 [items]."""

    users: Array
    user_begin: Array
    items: Array
    item_begin: Array
    item_group: Array


def deal(num_users: int, num_items: int, seed: int, epoch: int, least_items: int = 0) -> Deal:
    """The groups of one pass, drawn from seed and epoch alone.

    With `least_items` a group of items has as many at least, or all of them: the last groups may be empty.
    """
    random = np.random.default_rng([seed, epoch])
    runs = random.permutation(-(-num_users // _RUN))
    users = (runs[:, None] * _RUN + np.arange(_RUN)).ravel()
    users = users[users < num_users].astype(np.int32)
    items = random.permutation(num_items).astype(np.int32)
    num_filled = NUM_GROUPS if not least_items else min(NUM_GROUPS, max(1, num_items // least_items))
    groups = np.arange(NUM_GROUPS + 1)
    user_begin = (groups * num_users // NUM_GROUPS).astype(np.int64)
    item_begin = (np.minimum(groups, num_filled) * num_items // num_filled).astype(np.int64)
    item_group = np.empty(num_items, np.int8)
    for group in range(NUM_GROUPS):
        item_group[items[item_begin[group] : item_begin[group + 1]]] = group
    return Deal(users, user_begin, items, item_begin, item_group)


def visits(dealt: Deal, indptr: Array, indices: Array) -> Any:
    """Yield (user, position of the interaction, group of items) in the order of the pass."""
    for phase in range(NUM_GROUPS):
        for group in range(NUM_GROUPS):
            wanted = (group + phase) % NUM_GROUPS
            for user in dealt.users[dealt.user_begin[group] : dealt.user_begin[group + 1]]:
                for position in range(indptr[user], indptr[user + 1]):
                    if dealt.item_group[indices[position]] == wanted:
                        yield user, position, wanted
