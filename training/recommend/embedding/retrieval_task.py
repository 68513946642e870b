"""The training task of the towers: retrieve a customer's next item among sampled negatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from shopsight.kernels.topk import topk
from shopsight.training.data.column_files import Int64
from shopsight.training.evaluation.ranking import ndcg_at_k, recall_at_k
from shopsight.training.recommend.embedding.config import FeatureConfig, TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.group import Group
from shopsight.training.recommend.embedding.inputs import Inputs
from shopsight.training.recommend.embedding.negatives import drawn, log_expected, sampled_softmax
from shopsight.training.recommend.embedding.two_tower import TwoTower

Float32 = NDArray[np.float32]
_CHUNK = 4096


@dataclass(frozen=True)
class Asked:
    """Customers with held-out items.

    customer, begin, end: int64 [n]; the history of each lies at begin..end of the events. relevant: CSR
    [n, items], what should be found; hidden: CSR [n, items], what may not be shown, None for nothing.
    blocked: int32 items that nobody is shown.
    """

    customer: Int64
    begin: Int64
    end: Int64
    relevant: sparse.csr_matrix
    hidden: sparse.csr_matrix | None = None
    blocked: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    k: int = 20

    def lists(self, customers: Float32, items: Float32, begin: int, end: int) -> NDArray[np.int32]:
        """The best items of customers begin..end by their vectors, int32 [end - begin, k], -1 for none."""
        mask = {}
        if self.hidden is not None:
            hidden = self.hidden[begin:end]
            mask = {
                "exclude_indptr": hidden.indptr.astype(np.int64),
                "exclude_indices": hidden.indices.astype(np.int32),
            }
        k = min(self.k, len(items))
        found, _ = topk(
            np.ascontiguousarray(customers),
            np.ascontiguousarray(items),
            k,
            exclude_items=self.blocked,
            **mask,
        )
        return found


class TwoTowerTask:
    """Fits the towers to every example's own item against the candidates of its step (negatives.py)."""

    def __init__(
        self,
        name: str,
        examples: Examples,
        features: FeatureConfig,
        config: TwoTowerConfig,
        *,
        data_sha256: str,
        asked: Asked | None = None,
    ) -> None:
        self.name, self.num_examples = name, len(examples.target)
        self._examples, self._config, self._asked = examples, config, asked
        self._inputs = Inputs(examples, features)
        self._log_q = log_expected(examples.item_count, config.loop.batch_size, config.num_negatives)
        self.fingerprint: dict[str, Any] = {
            "model": "two_tower",
            **{key: value for key, value in asdict(config).items() if key != "loop"},
            **asdict(features),
            "catalogue_sha256": examples.schema.catalogue_sha256,
            "num_examples": self.num_examples,
            "data_sha256": data_sha256,
        }
        self.fingerprint["layers"] = list(config.layers)

    def build(self) -> nn.Module:
        """Towers with their tables on the meta device."""
        return TwoTower(self._examples.schema, self._config)

    def loss(self, model: nn.Module, examples: Int64, key: tuple[int, ...], group: Group) -> Tensor:
        """Sampled softmax over the items of the whole batch and those drawn for it."""
        config, data, share = self._config, self._examples, group.share
        events = data.target[examples]
        begin, end = share.bounds(len(events))
        negatives = drawn(data.schema.num_items, config.num_negatives, *key)
        first, last = share.bounds(len(negatives))
        mine, salt = events[begin:end], _salt(key)
        customers = self._inputs.customers(
            data.begin[mine], data.until[mine], data.customer[mine], share.most(len(events)), salt
        )
        items = np.concatenate([data.item[mine], negatives[first:last]])
        places = np.concatenate([mine, len(data.item) + np.arange(first, last)])
        parts = list(zip(share.sizes(len(events)), share.sizes(len(negatives)), strict=True))
        sizes = [num + extra for num, extra in parts]
        own_items = self._inputs.items(items, max(sizes), salt + 1, places)
        vectors, candidates = model(customers.to(group.device), own_items.to(group.device))
        everything = group.gathered(candidates[: len(items)], sizes)
        ids = _interleaved(data.item[events], negatives, parts)
        offset = sum(sizes[: share.rank])
        return (
            sampled_softmax(
                vectors[: len(mine)] @ everything.T / config.temperature,
                torch.from_numpy(ids).to(group.device),
                torch.arange(offset, offset + len(mine), device=group.device),
                torch.from_numpy(self._log_q[ids]).to(group.device),
                config.popularity_correction,
            )
            * share.num_workers
            / len(events)
        )

    @property
    def is_judged(self) -> bool:
        """Whether there are customers to validate on."""
        return self._asked is not None and len(self._asked.customer) > 0

    def validate(self, model: nn.Module, group: Group) -> dict[str, float]:
        """NDCG and recall of the customers asked about, over all items; each worker asks for its share."""
        asked = self._asked
        if asked is None or not len(asked.customer):
            return {}
        towers = getattr(model, "module", model)
        items = self.item_vectors(towers, group)
        recall = ndcg = 0.0
        for begin, end, vectors in self.customer_vectors(towers, asked, group):
            lists = asked.lists(vectors, items, begin, end)
            recall += float(recall_at_k(lists, asked.relevant[begin:end]).sum())
            ndcg += float(ndcg_at_k(lists, asked.relevant[begin:end]).sum())
        recall, ndcg = group.total([recall, ndcg])
        num = len(asked.customer)
        return {f"ndcg_at_{asked.k}": ndcg / num, f"recall_at_{asked.k}": recall / num}

    def item_vectors(self, towers: Any, group: Group) -> Float32:
        """The vectors of all items, float32 [items, dim], on every worker. Collective."""
        parts = []
        for chunk in _chunks(self._examples.schema.num_items):
            begin, end = group.share.bounds(len(chunk))
            features = self._inputs.items(chunk[begin:end], group.share.most(len(chunk)))
            with torch.no_grad():
                mine = towers.items(features.to(group.device))[: end - begin]
                parts.append(group.gathered(mine, group.share.sizes(len(chunk))).cpu().numpy())
        return np.concatenate(parts)

    def customer_vectors(self, towers: Any, asked: Asked, group: Group) -> Iterator[tuple[int, int, Float32]]:
        """Yield (begin, end, vectors float32 [end - begin, dim]) of this worker's customers. Collective."""
        for chunk in _chunks(len(asked.customer)):
            begin, end = (int(chunk[0]) + bound for bound in group.share.bounds(len(chunk)))
            rows = slice(begin, end)
            features = self._inputs.customers(
                asked.begin[rows], asked.end[rows], asked.customer[rows], group.share.most(len(chunk))
            )
            with torch.no_grad():
                vectors = towers.customers(features.to(group.device))[: end - begin]
            yield begin, end, vectors.cpu().numpy()


def _chunks(num: int) -> Iterator[Int64]:
    for begin in range(0, num, _CHUNK):
        yield np.arange(begin, min(begin + _CHUNK, num), dtype=np.int64)


def _interleaved(own: Any, negatives: Int64, parts: list[tuple[int, int]]) -> Int64:
    """The candidates in the order in which they are gathered: each worker's own items, then its negatives."""
    found, at, drawn_at = [], 0, 0
    for num, extra in parts:
        found += [own[at : at + num], negatives[drawn_at : drawn_at + extra]]
        at, drawn_at = at + num, drawn_at + extra
    return np.concatenate(found).astype(np.int64)


def _salt(key: tuple[int, ...]) -> int:
    """One number of seed, epoch and step, for what is hidden in this step."""
    return int(np.random.default_rng(key).integers(0, 2**62))
