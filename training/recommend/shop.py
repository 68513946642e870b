"""What the recommender reads of a workspace, once: interactions, windows, and what can be sold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.consent import PERSONALISATION, forbidden, permitted
from shopsight.training.data.tables import scan_table
from shopsight.training.recommend import interactions, split
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.interactions import Catalogue

_KINDS = ("view", "cart", "purchase", "return", "rating", "review")


@dataclass(frozen=True)
class Shop:
    """The events that tie a customer to an item, and everything that is derived from them as of a time."""

    workspace: Workspace
    config: RecommendConfig

    @cached_property
    def events(self) -> pl.LazyFrame:
        """The events with customer and item, in memory: several matrices are made of them.

        What customers did who forbid personalisation is not among them, nor are lines that are no goods.
        """
        columns = ("event_id", "customer_id", "item_id", "event", "timestamp", "rating")
        tied = permitted(self.workspace, "events", PERSONALISATION).filter(
            pl.col("customer_id").is_not_null(),
            pl.col("item_id").is_not_null(),
            pl.col("event").is_in(_KINDS),
        )
        every = scan_table(self.workspace.tables, "items")
        return of_goods(tied.select(columns), every).collect().lazy()

    @cached_property
    def items(self) -> pl.LazyFrame:
        """The items table without what is no good: nobody is recommended postage."""
        return scan_table(self.workspace.tables, "items").filter(pl.col("goods").fill_null(True))

    @cached_property
    def known(self) -> Catalogue:
        """Every customer and item."""
        return interactions.catalogue(self.events, scan_table(self.workspace.tables, "customers"), self.items)

    @cached_property
    def personalised(self) -> NDArray[np.bool_]:
        """Which customers of `known` allow personalisation, bool [customers]."""
        return ~self.known.customer_ids.is_in(forbidden(self.workspace, PERSONALISATION)).to_numpy()

    @cached_property
    def windows(self) -> split.Windows:
        """The cuts in time."""
        return split.windows(self.events, self.config.test_days)

    @cached_property
    def target(self) -> str:
        """The event that is predicted."""
        return split.target_event(self.events)

    def user_items(self, before: datetime) -> csr_matrix:
        """How much each customer likes each item."""
        config = self.config
        return interactions.user_items(
            self.events, self.known, config.event_weights, config.half_life_days, before
        )

    def user_items_of_the_past(self, before: datetime) -> csr_matrix:
        """The same matrix, made without looking at any later event; for comparison (split.leak_report)."""
        config, past = self.config, split.events_before(self.events, before)
        return interactions.user_items(
            past, self.known, config.event_weights, config.half_life_days, self.windows.end
        )

    def bought(self, before: datetime) -> csr_matrix:
        """What each customer bought and kept."""
        return interactions.bought(self.events, self.known, before)

    def targets(self, begin: datetime, end: datetime) -> csr_matrix:
        """What each customer did in a window that a recommendation should have foreseen."""
        return split.targets(self.events, self.known, self.target, begin, end)

    def popularity(self, before: datetime, group: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """How popular each item is, float32 [items], or with `group` (int64 [customers]) [groups, items].

        What cannot be sold at that time has 0.
        """
        count = interactions.popularity(
            self.events, self.known, self.target, self.config.half_life_days, before, group
        )
        sellable = np.where(self.available(before), count, np.float32(0.0))
        return sellable[0] if group is None else sellable

    def available(self, at: datetime) -> NDArray[np.bool_]:
        """Which items can be sold."""
        return interactions.available(self.items, self.known, at)
