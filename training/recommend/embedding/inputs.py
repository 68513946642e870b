"""The inputs of TorchRec from columns: jagged tensors of table rows, with one key per feature."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from shopsight.training.data.column_files import latest
from shopsight.training.recommend.embedding.config import FeatureConfig
from shopsight.training.recommend.embedding.examples import Examples, Schema

Int64 = NDArray[np.int64]
Array = NDArray[Any]

HISTORY_KEYS = ("history", "recent", "last")  # bags of one table: all that counts, the latest few, the last
ITEM_KEY = "item"


def customer_keys(schema: Schema) -> list[str]:
    """The features of a customer in the order of the pooled embeddings."""
    return [*HISTORY_KEYS, *(f"customer_{name}" for name in schema.customer_features)]


def item_keys(schema: Schema) -> list[str]:
    """The features of an item in the order of the pooled embeddings."""
    return [ITEM_KEY, *(f"item_{name}" for name in schema.item_features)]


def customer_tables(schema: Schema, dim: int) -> list[EmbeddingBagConfig]:
    """The tables behind a customer: items of the history, averaged, and a table a fact."""
    facts = [_table(f"customer_{name}", size, dim) for name, size in schema.customer_features.items()]
    rows = schema.num_items + schema.item_buckets
    history = EmbeddingBagConfig(
        name="history",
        num_embeddings=rows,
        embedding_dim=dim,
        feature_names=list(HISTORY_KEYS),
        pooling=PoolingType.MEAN,
    )
    return [history, *facts]


def item_tables(schema: Schema, dim: int) -> list[EmbeddingBagConfig]:
    """The tables behind an item: itself, or its bucket, and a table a fact."""
    facts = [_table(f"item_{name}", size, dim) for name, size in schema.item_features.items()]
    return [_table(ITEM_KEY, schema.num_items + schema.item_buckets, dim), *facts]


class KeyedBags(nn.Module):
    """Tables of one dim whose pooled embeddings come in the order of `keys`, whole or sharded.

    A sharded collection returns its keys in the order of the sharding plan: a place in its values means
    nothing.
    """

    def __init__(
        self, tables: Sequence[EmbeddingBagConfig], keys: Sequence[str], device: torch.device
    ) -> None:
        super().__init__()
        self.keys, self.dim = list(keys), tables[0].embedding_dim
        self.bags = EmbeddingBagCollection(list(tables), device=device)

    def forward(self, features: Any) -> Any:
        """A keyed tensor with values float32 [rows, keys * dim] of the features, a jagged tensor."""
        found = self.bags(features).to_dict()
        values = torch.cat([found[key] for key in self.keys], dim=1)
        return KeyedTensor(keys=self.keys, length_per_key=[self.dim] * len(self.keys), values=values)


@dataclass(frozen=True)
class Inputs:
    """Makes jagged tensors of customers and items from mapped columns; `key` says which ids hide today."""

    examples: Examples
    config: FeatureConfig

    def customers(
        self, begin: Int64, end: Int64, customer: Array, num_rows: int, key: int | None = None
    ) -> Any:
        """The features of customers, each with the history at begin..end, int64 [n]; a jagged tensor.

        Rows without features follow up to num_rows, for workers must look up equally many.
        With `key`, a share of the history's items stand as their buckets (FeatureConfig.bucket_share).
        """
        places, lengths = latest(begin, end, self.config.max_history)
        if key is not None:
            places, lengths = self._thinned(places, lengths, key)
        items = self.examples.item[places]
        rows = self.examples.item_row[items]
        if key is not None:
            rows = self._hidden(rows, items, places, key)
        last = np.cumsum(lengths, dtype=np.int64)
        first = last - lengths
        recent, num_recent = latest(first, last, self.config.num_recent)
        final, num_final = latest(first, last, 1)
        facts = self.examples.customer_feature[customer]
        return _jagged(
            customer_keys(self.examples.schema),
            [(rows, lengths), (rows[recent], num_recent), (rows[final], num_final), *_columns(facts)],
            num_rows,
        )

    def items(self, items: Array, num_rows: int, key: int | None = None, places: Int64 | None = None) -> Any:
        """The features of items; a jagged tensor, with rows without features after them up to num_rows.

        With `key`, a share of them stand as their buckets; `places`, int64 [items], tells them apart.
        """
        rows = self.examples.item_row[items]
        if key is not None and places is not None:
            rows = self._hidden(rows, items, places, key)
        facts = self.examples.item_feature[items]
        return _jagged(
            item_keys(self.examples.schema), [*_columns(rows[:, None]), *_columns(facts)], num_rows
        )

    def _hidden(self, rows: Array, items: Array, places: Int64, key: int) -> Array:
        """Replace a share of rows by their buckets, by place and key alone, whoever asks."""
        if not self.config.bucket_share:
            return rows
        hide = _chance(places, key) < self.config.bucket_share
        return np.where(hide, self.examples.item_bucket[items], rows)

    def _thinned(self, places: Int64, lengths: Array, key: int) -> tuple[Int64, Array]:
        """Leave a share of histories' places away (FeatureConfig.history_dropout)."""
        if not self.config.history_dropout:
            return places, lengths
        kept = _chance(places, key + 2) >= self.config.history_dropout
        row = np.repeat(np.arange(len(lengths)), lengths)
        return places[kept], np.bincount(row[kept], minlength=len(lengths)).astype(np.int32)


def _chance(places: Int64, key: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that depend on place and key alone, whichever worker asks."""
    with np.errstate(over="ignore"):
        mixed = (places.astype(np.uint64) ^ np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _table(name: str, rows: int, dim: int) -> EmbeddingBagConfig:
    return EmbeddingBagConfig(
        name=name, num_embeddings=rows, embedding_dim=dim, feature_names=[name], pooling=PoolingType.SUM
    )


def _columns(codes: Array) -> list[tuple[Array, Array]]:
    ones = np.ones(len(codes), dtype=np.int32)
    return [(codes[:, column], ones) for column in range(codes.shape[1])]


def _jagged(keys: list[str], parts: list[tuple[Array, Array]], num_rows: int) -> Any:
    values = np.concatenate([part[0] for part in parts]).astype(np.int64)
    lengths = np.zeros((len(parts), num_rows), dtype=np.int32)
    for row, part in zip(lengths, parts, strict=True):
        row[: len(part[1])] = part[1]
    return KeyedJaggedTensor(
        keys=keys, values=torch.from_numpy(values), lengths=torch.from_numpy(lengths.ravel())
    )
