"""The catalogue: a category tree of two levels, brands, titles, prices, and how popular each item is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.training.data.shop.people import phrases
from shopsight.training.data.shop.personas import DEPARTMENTS
from shopsight.training.data.shop.spec import NUM_DAYS, START, ShopSpec, random_stream

LATENT = 6  # dimensions of style that neither category nor price explains


@dataclass(frozen=True)
class Catalogue:
    """The items, sorted by category; every array has one entry an item unless it says so."""

    frame: pl.DataFrame  # items.csv without bad rows
    category: NDArray[np.int64]
    department: NDArray[np.int64]  # of each category, [num_categories]
    category_start: NDArray[np.int64]  # first item of each category, [num_categories + 1]
    price: NDArray[np.float64]
    price_level: NDArray[np.float64]  # standard deviations of log price within the category
    popularity: NDArray[np.float64]  # log weight within the category (Zipf)
    style: NDArray[np.float64]  # [num_items, LATENT]
    quality: NDArray[np.float64]  # what reviewers feel, about -1 to 1
    from_day: NDArray[np.float64]
    to_day: NDArray[np.float64]

    @property
    def num_items(self) -> int:
        """Items in the catalogue."""
        return len(self.price)


def draw_catalogue(spec: ShopSpec) -> Catalogue:
    """Draw the catalogue of a shop; 15 % of items are launched and 8 % withdrawn during the year."""
    rng = random_stream(spec, "catalogue")
    leaves = [(d, leaf) for d in DEPARTMENTS for leaf in phrases("catalogue")[d]["leaves"]]
    num, tree = spec.catalogue_size, phrases("catalogue")
    weight = rng.gamma(6.0, 1.0, len(leaves))
    sizes = np.maximum(3, np.floor(weight / weight.sum() * num).astype(np.int64))
    while sizes.sum() != num:
        sizes[np.argmax(sizes)] += np.sign(num - sizes.sum())
    category = np.repeat(np.arange(len(leaves)), sizes)
    start = np.concatenate([[0], np.cumsum(sizes)])
    level = rng.normal(0, 1, num)
    centre = np.array([tree[d]["price"] for d, _ in leaves]) * rng.lognormal(0, 0.35, len(leaves))
    spread = np.array([tree[d]["spread"] for d, _ in leaves])
    price = np.maximum(
        0.5,
        np.round(centre[category] * np.exp(level * spread[category])) - rng.choice([0.01, 0.05, 0.5], num),
    )
    rank = np.concatenate([rng.permutation(s) for s in sizes]) + 1
    launched, withdrawn = rng.random(num) < 0.15, rng.random(num) < 0.08
    from_day = np.where(launched, rng.uniform(5, NUM_DAYS - 60, num), -rng.uniform(30, 2000, num)).round()
    to_day = np.where(withdrawn, np.maximum(from_day, 0) + rng.uniform(40, NUM_DAYS, num), 4000).round()
    to_day = np.where(to_day > NUM_DAYS + 60, 4000, to_day)
    price = np.round(price, 2)
    frame = _frame(leaves, category, price, rng).with_columns(
        launched_at=_days(from_day), withdrawn_at=pl.when(pl.Series(to_day < 4000)).then(_days(to_day))
    )
    return Catalogue(
        frame=frame,
        category=category,
        department=np.array([DEPARTMENTS.index(d) for d, _ in leaves]),
        category_start=start,
        price=price,
        price_level=level,
        popularity=-0.75 * np.log(rank),
        style=rng.normal(0, 1, (num, LATENT)) / np.sqrt(LATENT),
        quality=np.clip(rng.normal(0.25, 0.5, num), -1, 1),
        from_day=from_day,
        to_day=to_day,
    )


def _days(days: np.ndarray) -> pl.Series:
    stamps = np.datetime64(START.date().isoformat(), "D") + days.astype("timedelta64[D]")
    return pl.Series(np.datetime_as_string(stamps))


def _frame(
    leaves: list[tuple[str, str]],
    category: np.ndarray,
    price: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    tree, num = phrases("catalogue"), category.size
    draws = rng.integers(0, 1_000_000, (4, num))
    margin = rng.uniform(0.45, 0.8, num)
    rows = []
    for i, c in enumerate(category):
        department, leaf = leaves[c]
        own, nouns = tree[department], tree[department]["leaves"][leaf]
        brand = own["brands"][draws[0, i] % len(own["brands"])]
        colours = tree["colours"]
        k = draws[1, i] % len(colours["en"])
        word = own["adjectives"][draws[2, i] % len(own["adjectives"])]
        noun = nouns["en"][draws[3, i] % len(nouns["en"])]
        if draws[3, i] % 100 < 12:
            title = f"{brand} {colours['zh'][k]}{nouns['zh'][draws[3, i] % len(nouns['zh'])]}"
        else:
            title = f"{brand} {word} {noun}, {colours['en'][k]}"
        rows.append(
            (f"I{i + 1:05d}", title, f"{department}/{leaf}", brand, f'{{"colour": "{colours["en"][k]}"}}')
        )
    frame = pl.DataFrame(rows, schema=["sku", "title", "category", "brand", "attributes"], orient="row")
    cost = np.round(price * margin, 2)
    return frame.select(
        "sku", "title", "category", "brand", pl.Series("price", price), pl.Series("cost", cost), "attributes"
    )
