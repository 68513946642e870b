"""The two-tower model: vectors of customers and of items, compared by a scaled dot product."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shopsight.training.recommend.embedding.checkpoint import weights
from shopsight.training.recommend.embedding.config import TwoTowerConfig
from shopsight.training.recommend.embedding.examples import Schema
from shopsight.training.recommend.embedding.inputs import (
    KeyedBags,
    customer_keys,
    customer_tables,
    item_keys,
    item_tables,
)


class Tower(nn.Module):
    """From the pooled embeddings of several features to one vector of length one.

    A weighted sum of the embeddings, to which layers add what they find in all of them together; with a
    single feature there is nothing to find, and the vector is the embedding's direction.
    """

    def __init__(self, num_features: int, dim: int, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features, self.dim = num_features, dim
        self.mix = nn.Parameter(torch.full((num_features, 1), num_features**-0.5))
        self.layers = perceptron(num_features * dim, layers, dim) if num_features > 1 else None

    def forward(self, pooled: Tensor) -> Tensor:
        """pooled float32 [rows, features * dim]; returns float32 [rows, dim]."""
        vector = (pooled.view(-1, self.num_features, self.dim) * self.mix).sum(dim=1)
        if self.layers is not None:
            vector = vector + self.layers(pooled)
        return nn.functional.normalize(vector, dim=1)


class TwoTower(nn.Module):
    """Tables and towers of both sides; tables are on the meta device by default."""

    def __init__(self, schema: Schema, config: TwoTowerConfig, device: str = "meta") -> None:
        super().__init__()
        where = torch.device(device)
        self.customer_tables = KeyedBags(customer_tables(schema, config.dim), customer_keys(schema), where)
        self.item_tables = KeyedBags(item_tables(schema, config.dim), item_keys(schema), where)
        self.customer_tower = Tower(len(customer_keys(schema)), config.dim, config.layers)
        self.item_tower = Tower(len(item_keys(schema)), config.dim, config.layers)

    def forward(self, customers: Any, items: Any) -> tuple[Tensor, Tensor]:
        """Return vectors of customers and of items, float32 [rows, dim] each, from their jagged tensors."""
        return self.customers(customers), self.items(items)

    def customers(self, features: Any) -> Tensor:
        """Return vectors of customers, float32 [rows, dim]."""
        vectors: Tensor = self.customer_tower(self.customer_tables(features).values())
        return vectors

    def items(self, features: Any) -> Tensor:
        """Return vectors of items, float32 [rows, dim]."""
        vectors: Tensor = self.item_tower(self.item_tables(features).values())
        return vectors


def perceptron(width: int, layers: tuple[int, ...], out: int) -> nn.Sequential:
    """Linear layers of these widths with rectifiers between them."""
    sizes = [width, *layers]
    hidden: list[nn.Module] = []
    for before, after in pairwise(sizes):
        hidden += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(sizes[-1], out))


def load_towers(model: TwoTower, folder: Path) -> TwoTower:
    """Give a model whose tables are on the CPU the weights of a fit's last good checkpoint; returns it."""
    model.load_state_dict(weights(folder))
    return model.eval()
