"""The data of the recommender, read once from a workspace: interactions, windows, items that can be sold."""

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
from shopsight.training.profiles.measures import top_level
from shopsight.training.recommend import interactions, split
from shopsight.training.recommend.config import RecommendConfig
from shopsight.training.recommend.interactions import Catalogue
from shopsight.training.recommend.neighbours.histories import Histories

_KINDS = ("view", "cart", "purchase", "return", "rating", "review")


@dataclass(frozen=True)
class Shop:
    """The events of customers with items, and what is derived from them as of a time."""

    workspace: Workspace
    config: RecommendConfig

    @cached_property
    def events(self) -> pl.LazyFrame:
        """The events with a customer and an item, in memory, because several matrices are made of them.

        Events of customers who forbid personalisation and lines that are no goods are left out.
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
        """The items table without items that are no goods, such as postage."""
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
    def category(self) -> NDArray[np.int64]:
        """The top category of each item of `known` as a code, int64 [items]; -1 where it is not known."""
        named = self.items.select("item_id", category=top_level()).unique("item_id", keep="first").collect()
        ids = self.known.item_ids.to_frame("item_id")
        found = ids.join(named, on="item_id", how="left", maintain_order="left")["category"]
        return found.rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1

    @cached_property
    def windows(self) -> split.Windows:
        """The windows in time."""
        return split.windows(self.events, self.config.test_days)

    @cached_property
    def target(self) -> str:
        """The event that is predicted."""
        return split.target_event(self.events)

    def user_items(self, before: datetime) -> csr_matrix:
        """Return the preferences of customers for items, CSR float32 [customers, items]."""
        return self._user_items_of(self.events, before)

    def user_items_of_the_past(self, before: datetime) -> csr_matrix:
        """Return the same matrix computed from earlier events alone, for comparison (split.leak_report)."""
        return self._user_items_of(split.events_before(self.events, before), self.windows.end)

    def _user_items_of(self, events: pl.LazyFrame, before: datetime) -> csr_matrix:
        config = self.config
        return interactions.user_items(
            events,
            self.known,
            config.event_weights,
            config.half_life_days,
            before,
            config.half_life_steps,
        )

    def histories(self, before: datetime) -> Histories:
        """Return the items of each customer of `known` in the order of time."""
        return interactions.histories(self.events, self.known, self.config.event_weights, before)

    def bought(self, before: datetime) -> csr_matrix:
        """Return the items that each customer bought and kept, CSR of ones [customers, items]."""
        return interactions.bought(self.events, self.known, before)

    def targets(self, begin: datetime, end: datetime) -> csr_matrix:
        """Return the target items of each customer in a window, CSR of ones [customers, items]."""
        return split.targets(self.events, self.known, self.target, begin, end)

    def popularity(self, before: datetime, group: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Return the popularity of items, float32 [items]; [groups, items] with `group`, int64 [customers].

        It is 0 for items that cannot be sold at that time.
        """
        count = interactions.popularity(
            self.events, self.known, self.target, self.config.half_life_days, before, group
        )
        sellable = np.where(self.available(before), count, np.float32(0.0))
        return sellable[0] if group is None else sellable

    def available(self, at: datetime) -> NDArray[np.bool_]:
        """Return which items can be sold at a time, bool [items]."""
        return interactions.available(self.items, self.known, at)
