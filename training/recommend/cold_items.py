"""Cold-start items: items without interactions get factors predicted from their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from shopsight.training.data.images import ImageConfig, image_batches, screen
from shopsight.training.recommend.content import ContentConfig, ContentFeatures, ContentModel
from shopsight.training.recommend.content.features import item_tokens
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.shop import Shop

_LEAST_ITEMS = 50  # with interactions: fewer are not enough to learn from
_SIZE = 48
_BATCH = 256


def with_cold_items(shop: Shop, model: MatrixFactorization) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return item factors float32 [items, f], predicted for cold items, and whether each is cold, bool.

    An item is cold if it has content in the items table but no interactions. Pictures are used if
    `content_pictures`, a folder, has one for every item for which the table names one. Without cold items, or
    with too few others to learn from, the factors are those of the model.
    """
    factors = np.array(model.item_factors, dtype=np.float32)
    count = np.bincount(model.user_items.indices, minlength=len(factors)).astype(np.float64)
    table = _described(shop)
    tokens = item_tokens(table)
    has_content = np.array([bool(one) for one in tokens], dtype=np.bool_)
    cold, warm = (count == 0) & has_content, np.flatnonzero((count > 0) & has_content)
    none = np.zeros(len(factors), dtype=np.bool_)
    if not shop.config.content or not cold.any() or len(warm) < _LEAST_ITEMS:
        return factors, none
    config = ContentConfig()
    rows = ContentFeatures.fit([tokens[i] for i in warm], config.num_buckets).rows(tokens)
    pictures = _pictures(table, shop.config.content_pictures)
    learned = ContentModel.fit(
        config, rows[warm], factors[warm], count[warm], None if pictures is None else pictures[warm]
    )
    chosen = np.flatnonzero(cold)
    factors[chosen] = learned.predict(rows[chosen], None if pictures is None else pictures[chosen])
    return factors, cold


class PicturesMissing(ValueError):  # noqa: N818 - named for its cause
    """Pictures that the items table names are missing from the folder, or are not pictures."""


def _described(shop: Shop) -> pl.DataFrame:
    items = shop.items.collect().unique("item_id", keep="first", maintain_order=True)
    return shop.known.item_ids.to_frame("item_id").join(
        items, on="item_id", how="left", maintain_order="left"
    )


def _pictures(table: pl.DataFrame, folder: str) -> torch.Tensor | None:
    """Return pictures float32 [items, 3, size, size] of the table's rows, zeros for an item without one."""
    if not folder:
        return None
    named = np.flatnonzero(table["image_path"].is_not_null().to_numpy())
    paths = [Path(folder) / path for path in table["image_path"].drop_nulls()]
    found = screen(paths)
    if found.refused:
        _, path, reason = found.refused[0]
        raise PicturesMissing(
            f"{path}: {reason}, and {len(found.refused) - 1} more of {len(paths)}; correct the pictures or "
            "recommend.content_pictures, or leave pictures out with --set recommend.content_pictures="
        )
    pixels = torch.zeros(table.height, 3, _SIZE, _SIZE)
    if paths:
        batches = image_batches(paths, ImageConfig(size=_SIZE), _BATCH)
        pixels[torch.from_numpy(named)] = torch.cat([batch.cpu() for batch in batches])
    return pixels
