"""The ranker, the second stage: scores a customer's candidates from all features of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shopsight.training.recommend.embedding.checkpoint import weights
from shopsight.training.recommend.embedding.config import RankerConfig
from shopsight.training.recommend.embedding.examples import Schema
from shopsight.training.recommend.embedding.inputs import (
    KeyedBags,
    customer_keys,
    customer_tables,
    item_keys,
    item_tables,
)
from shopsight.training.recommend.embedding.two_tower import perceptron

# log(1 + x) of: the item's examples, the length of the history, how often the item is in it.
DENSE = ("item_count", "history_length", "times_in_history")


class Ranker(nn.Module):
    """Embeddings of both sides and of the dense features, their pairwise dot products, layers on top."""

    def __init__(self, schema: Schema, config: RankerConfig, device: str = "meta") -> None:
        super().__init__()
        where = torch.device(device)
        self.customer_tables = KeyedBags(customer_tables(schema, config.dim), customer_keys(schema), where)
        self.item_tables = KeyedBags(item_tables(schema, config.dim), item_keys(schema), where)
        self.dim = config.dim
        num_parts = len(customer_keys(schema)) + len(item_keys(schema)) + 1
        self.dense_layers = perceptron(len(DENSE), config.dense_layers, config.dim)
        self.layers = perceptron(config.dim + num_parts * (num_parts - 1) // 2, config.layers, 1)
        below = torch.tril_indices(num_parts, num_parts, offset=-1)
        self.pairs: Tensor
        self.register_buffer("pairs", below[0] * num_parts + below[1], persistent=False)

    def forward(self, customers: Any, items: Any, dense: Tensor) -> Tensor:
        """Return scores float32 [rows, candidates].

        customers: jagged tensor of rows; items: of rows x candidates, those of a row together; dense: float32
        [rows, candidates, 3], as DENSE names them.
        """
        num_rows, num_candidates, _ = dense.shape
        mine = self.customer_tables(customers).values().view(num_rows, 1, -1, self.dim)
        theirs = self.item_tables(items).values().view(num_rows, num_candidates, -1, self.dim)
        described = self.dense_layers(dense)
        parts = torch.cat([mine.expand(-1, num_candidates, -1, -1), theirs, described[:, :, None]], dim=2)
        dots = (parts @ parts.transpose(2, 3)).flatten(2)[:, :, self.pairs]
        scores: Tensor = self.layers(torch.cat([described, dots], dim=2)).squeeze(2)
        return scores


def load_ranker(model: Ranker, folder: Path) -> Ranker:
    """Give a model whose tables are on the CPU the weights of a fit's last good checkpoint; returns it."""
    model.load_state_dict(weights(folder))
    return model.eval()
