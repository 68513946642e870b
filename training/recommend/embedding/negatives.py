"""Negative sampling with correction for popularity: items of the batch, and uniformly drawn items.

Mixed negative sampling (Yang et al., 2020): the batch's items come as often as they are popular, the drawn
ones evenly; log Q of an item is the log of how often it is expected among all candidates, and comes off its
logit, so that the softmax over candidates estimates the softmax over the catalogue (Yi et al., 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Int64 = NDArray[np.int64]


def drawn(num_items: int, num: int, *key: int) -> Int64:
    """Draw `num` items evenly, int64; the same for the same key, on every worker."""
    return np.random.default_rng(key).integers(0, num_items, num)


def log_expected(item_count: Int64, batch_size: int, num_drawn: int) -> NDArray[np.float32]:
    """log of how often each item is expected among the candidates of a step, float32 [items].

    item_count: examples of each item, int64 [items]. Items without any come by the even draw alone.
    """
    share = item_count / max(int(item_count.sum()), 1)
    expected = batch_size * share + num_drawn / len(item_count)
    return np.log(np.maximum(expected, 1e-12)).astype(np.float32)


def sampled_softmax(
    logits: Tensor, candidates: Tensor, own: Tensor, log_q: Tensor, correction: float
) -> Tensor:
    """Cross-entropy of each row's own candidate among all, summed over rows.

    logits float32 [rows, candidates]; candidates int64 [candidates], the items; own int64 [rows], the column
    of the row's item; log_q float32 [candidates]. Other columns of the same item do not count as negatives.
    """
    corrected = logits - correction * log_q
    same = candidates[own][:, None] == candidates[None, :]
    same[torch.arange(len(own), device=own.device), own] = False
    return torch.nn.functional.cross_entropy(corrected.masked_fill(same, -torch.inf), own, reduction="sum")
