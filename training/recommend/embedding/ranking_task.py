"""The training task of the ranker: rank a customer's next item above sampled negatives."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shopsight.training.data.column_files import Int64
from shopsight.training.recommend.embedding.config import FeatureConfig, RankerConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.group import Group
from shopsight.training.recommend.embedding.inputs import Inputs
from shopsight.training.recommend.embedding.negatives import log_expected
from shopsight.training.recommend.embedding.ranker import DENSE, Ranker

Float32 = NDArray[np.float32]


class RankerTask:
    """Fits the ranker: a softmax of each example's own item and its negatives, popularity taken off."""

    def __init__(
        self, name: str, examples: Examples, features: FeatureConfig, config: RankerConfig, data_sha256: str
    ) -> None:
        self.name, self.num_examples = name, len(examples.target)
        self._examples, self._config = examples, config
        self._inputs, self._features = Inputs(examples, features), features
        self._popular = config.num_negatives // 2
        even = config.num_negatives - self._popular
        self._log_q = log_expected(examples.item_count, self._popular, even)
        self._cumulative = np.cumsum(examples.item_count)
        self.fingerprint: dict[str, Any] = {
            "model": "ranker",
            **{key: value for key, value in asdict(config).items() if key not in ("loop", "num_candidates")},
            **asdict(features),
            "catalogue_sha256": examples.schema.catalogue_sha256,
            "num_examples": self.num_examples,
            "data_sha256": data_sha256,
        }
        for field in ("layers", "dense_layers"):
            self.fingerprint[field] = list(self.fingerprint[field])

    def build(self) -> nn.Module:
        """A ranker with its tables on the meta device."""
        return Ranker(self._examples.schema, self._config)

    def loss(self, model: nn.Module, examples: Int64, key: tuple[int, ...], group: Group) -> Tensor:
        """Cross-entropy of the own item, in the first place, among the candidates."""
        data, share = self._examples, group.share
        events = data.target[examples]
        candidates = np.column_stack([data.item[events], self._negatives(len(events), key)])
        begin, end = share.bounds(len(events))
        mine, rows = events[begin:end], share.most(len(events))
        scores = self.scores(
            model, data.begin[mine], data.until[mine], data.customer[mine], candidates[begin:end], rows, group
        )
        log_q = torch.from_numpy(self._log_q[candidates[begin:end]]).to(group.device)
        own = candidates[begin:end, :1]
        same = torch.from_numpy(candidates[begin:end] == own).to(group.device)
        same[:, 0] = False
        logits = (scores - log_q).masked_fill(same, -torch.inf)
        first = torch.zeros(len(mine), dtype=torch.int64, device=group.device)
        loss = nn.functional.cross_entropy(logits, first, reduction="sum")
        return loss * share.num_workers / len(events)

    def validate(self, model: nn.Module, group: Group) -> dict[str, float]:
        """Return {}: the ranker is evaluated on what the towers retrieve (trainer.py)."""
        del model, group
        return {}

    def scores(
        self,
        model: Any,
        begin: Int64,
        end: Int64,
        customer: Any,
        candidates: NDArray[Any],
        num_rows: int,
        group: Group,
    ) -> Tensor:
        """Scores of candidates int64 [n, c] of customers with the history at begin..end, float32 [n, c]."""
        num, width = candidates.shape
        customers = self._inputs.customers(begin, end, customer, num_rows)
        items = self._inputs.items(candidates.ravel(), num_rows * width)
        dense = np.zeros((num_rows, width, len(DENSE)), dtype=np.float32)
        dense[:num] = self._dense(begin, end, candidates)
        scores: Tensor = model(
            customers.to(group.device), items.to(group.device), torch.from_numpy(dense).to(group.device)
        )
        return scores[:num]

    def _dense(self, begin: Int64, end: Int64, candidates: NDArray[Any]) -> Float32:
        """What DENSE names, float32 [n, c, 3]."""
        most, item = self._features.max_history, self._examples.item
        ages = np.arange(1, min(most, int((end - begin).max(initial=0))) + 1)
        places = end[:, None] - ages
        history = np.where(places >= begin[:, None], item[np.maximum(places, 0)], -1)
        times = (history[:, None, :] == candidates[:, :, None]).sum(axis=2)
        length = np.broadcast_to(np.minimum(end - begin, most)[:, None], candidates.shape)
        counts = np.stack([self._examples.item_count[candidates], length, times], axis=2)
        return np.asarray(np.log1p(counts), dtype=np.float32)

    def _negatives(self, num: int, key: tuple[int, ...]) -> Int64:
        """Items int64 [num, negatives], the first half drawn by popularity."""
        rng, data = np.random.default_rng(key), self._examples
        popular = rng.integers(0, self._cumulative[-1], (num, self._popular))
        even = rng.integers(0, data.schema.num_items, (num, self._config.num_negatives - self._popular))
        return np.hstack([np.searchsorted(self._cumulative, popular, side="right"), even]).astype(np.int64)
