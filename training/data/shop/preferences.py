"""Each person's propensity for each item, as factors, and draws from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shopsight.training.data.shop.catalogue import LATENT, Catalogue
from shopsight.training.data.shop.personas import Traits

Array = NDArray[np.float64]

_STYLE = 1.6  # how strongly the own style decides within a category
_PRICE_PULL = 0.8  # 1 / variance of the price level that a person likes
_BLOCK_CELLS = 400_000  # people x items held at once: about what a processor's cache holds


def item_factors(catalogue: Catalogue) -> NDArray[np.float32]:
    """Return item factors [num_items, d]: category, style, price level, its square, and popularity."""
    level, category = catalogue.price_level, catalogue.category
    one_hot = np.eye(catalogue.department.size)[category]
    mass = np.bincount(category, np.exp(catalogue.popularity))
    bias = catalogue.popularity - np.log(mass)[category]
    return np.column_stack([one_hot, catalogue.style, level, -0.5 * level**2, bias]).astype(np.float32)


def person_factors(traits: Traits, catalogue: Catalogue, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return person factors [n, d]: exp(person . item) is proportional to an item's chance.

    The taste for a category is the taste for its department times a Dirichlet draw within it.
    """
    num, department = len(traits.persona), catalogue.department
    within = rng.standard_gamma(0.7, (num, department.size)) + 1e-4
    mass = np.stack([within[:, department == d].sum(axis=1) for d in range(traits.taste.shape[1])], axis=1)
    log_taste = np.log(traits.taste[:, department] * within / mass[:, department] + 1e-6)
    style = _STYLE * rng.normal(0, 1, (num, LATENT))
    pull = np.full(num, _PRICE_PULL)
    return np.column_stack([log_taste, style, pull * traits.price_level, pull, np.ones(num)]).astype(
        np.float32
    )


@dataclass(frozen=True)
class Wishes:
    """Draws to make: each array [num], people ascending.

    person: row of person_factor. day: day of the year, for availability. focus: the probability that the
    draw stays in the category of the draw before it; 0 for the first of a visit.
    """

    person: NDArray[np.int64]
    day: Array
    focus: Array


class Chooser:
    """Draws items for people: the inverse of each person's cumulative propensities, built block by block."""

    def __init__(self, person_factor: NDArray[np.float32], catalogue: Catalogue) -> None:
        self._person_factor = person_factor
        self._catalogue = catalogue
        self._item_factor = item_factors(catalogue).astype(np.float64).T

    def choose(self, wishes: list[Wishes], rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return an item a wish, [num] int64 each; -1 where nothing that is on sale that day was found."""
        person = np.concatenate([w.person for w in wishes])
        order = np.argsort(person, kind="stable")
        person, day = person[order], np.concatenate([w.day for w in wishes])[order]
        stays = rng.random(person.size) < np.concatenate([w.focus for w in wishes])[order]
        u = rng.random((4, person.size))
        chosen = np.full(person.size, -1, dtype=np.int64)
        for low, high, edges in self._blocks(person):
            part = slice(low, high)
            chosen[part] = self._draw(edges, person[part] - person[low], u[:, part], day[part], stays[part])
        out = np.empty_like(chosen)
        out[order] = chosen
        return np.split(out, np.cumsum([w.person.size for w in wishes])[:-1])

    def _blocks(self, person: NDArray[np.int64]) -> Iterator[tuple[int, int, Array]]:
        """Yield the draws low:high of a block of people with its edges, [people, num_items + 1].

        Row r runs from r to r + 1: between edges i and i + 1 lies item i, as wide as its propensity.
        """
        size = max(1, _BLOCK_CELLS // self._catalogue.num_items)
        low = 0
        while low < person.size:
            first = int(person[low])
            high = int(np.searchsorted(person, first + size))
            # In float64, so that the order of a sum cannot move a draw to another item.
            logits = self._person_factor[first : first + size].astype(np.float64) @ self._item_factor
            logits -= logits.max(axis=1, keepdims=True)
            edges = np.zeros((len(logits), logits.shape[1] + 1))
            np.cumsum(np.exp(logits, out=logits), axis=1, out=edges[:, 1:])
            edges /= edges[:, -1:]
            edges += np.arange(len(edges))[:, None]
            yield low, high, edges
            low = high

    def _draw(
        self, edges: Array, rows: NDArray[np.int64], u: Array, day: Array, stay: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        catalogue, flat = self._catalogue, edges.ravel()

        def invert(where: NDArray[np.int64], point: Array) -> NDArray[np.int64]:
            found: NDArray[np.int64] = np.searchsorted(flat, point, side="right") - 1
            item: NDArray[np.int64] = np.clip(found - where * edges.shape[1], 0, catalogue.num_items - 1)
            return item

        item = invert(rows, rows + u[0])
        # A draw that stays takes the category of the last one that did not.
        anchor = np.maximum.accumulate(np.where(stay, 0, np.arange(rows.size)))
        category = np.where(rows[anchor] == rows, catalogue.category[item[anchor]], catalogue.category[item])
        low = edges[rows, catalogue.category_start[category]]
        width = edges[rows, catalogue.category_start[category + 1]] - low
        item = np.where(stay, invert(rows, low + u[0] * width), item)
        for again in u[1:]:
            gone = np.flatnonzero((catalogue.from_day[item] > day) | (catalogue.to_day[item] <= day))
            item[gone] = invert(rows[gone], low[gone] + again[gone] * width[gone])
        item[(catalogue.from_day[item] > day) | (catalogue.to_day[item] <= day)] = -1
        return item
