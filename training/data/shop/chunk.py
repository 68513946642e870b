"""The people of one chunk with everything that is drawn about them before they act."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from shopsight.training.data.shop.accounts import draw_accounts
from shopsight.training.data.shop.behaviour import Ints
from shopsight.training.data.shop.catalogue import Catalogue
from shopsight.training.data.shop.experiment import assign_arms
from shopsight.training.data.shop.people import draw_people
from shopsight.training.data.shop.personas import Traits, draw_traits
from shopsight.training.data.shop.planted import with_campaign
from shopsight.training.data.shop.preferences import person_factors
from shopsight.training.data.shop.spec import DAY_SECONDS, NUM_DAYS, ShopSpec, random_stream

CHUNK = 5_000  # people whose year is held in memory at once
SELLING = ("web", "app", "store")  # in the order of behaviour.WEB, APP, STORE
_TALKING = {"reviews": 0.2, "social": 0.15, "support": 0.4}  # shares of people who are there too
_SECOND_ACCOUNT = 0.35  # of the visits of who has two


@dataclass(frozen=True)
class Chunk:
    """People `first` … of the shop; rows of people, traits, factors and arm go together."""

    index: int
    people: pl.DataFrame
    traits: Traits
    accounts: pl.DataFrame  # source, source_id, row (of people), second, the record, registered
    factors: np.ndarray
    arm: Ints
    visit_draws: np.ndarray  # decide which of two accounts a visit uses

    @property
    def base(self) -> int:
        """What sessions, orders and messages of this chunk are numbered from."""
        return self.index * 10_000_000

    @property
    def person_id(self) -> np.ndarray:
        """The planted ids of the people, [n] str."""
        return np.array([f"P{n:08d}" for n in self.people["number"]], dtype=object)

    def writes_in(self, source: str) -> np.ndarray:
        """Return who has an account in a channel, [n] bool."""
        rows = self.accounts.filter(source=source)["row"].to_numpy()
        present: np.ndarray = np.bincount(rows, minlength=self.people.height) > 0
        return present

    def source_ids(self, source: str, person: np.ndarray, visit: np.ndarray) -> pl.Series:
        """Return the account that each row was made with, null where the person has none.

        person: [num] rows of people. visit: [num]; rows of one visit use one account.
        """
        own = self.accounts.filter(source=source)
        at = np.full((2, self.people.height), -1, dtype=np.int64)
        at[own["second"].to_numpy().astype(np.int64), own["row"].to_numpy()] = np.arange(own.height)
        draw = self.visit_draws[visit % self.visit_draws.size]
        use = np.where((at[1, person] >= 0) & (draw < _SECOND_ACCOUNT), at[1, person], at[0, person])
        return own["source_id"].gather(pl.Series(use).set(pl.Series(use < 0), None))


def draw_chunk(index: int, catalogue: Catalogue, spec: ShopSpec) -> Chunk:
    """Draw the people of chunk `index`, each from streams of its own."""
    first = index * CHUNK
    num = min(CHUNK, spec.num_customers - first)
    people = draw_people(num, first, random_stream(spec, "people", index))
    traits = draw_traits(num, NUM_DAYS, random_stream(spec, "traits", index))
    if spec.behaviour:
        traits = with_campaign(traits, random_stream(spec, "campaign", index))
    rng = random_stream(spec, "accounts", index)
    members = {name: traits.has_channel[:, k] for k, name in enumerate(SELLING)}
    members |= {name: rng.random(num) < share for name, share in _TALKING.items()}
    accounts = draw_accounts(people, members, rng)
    registered = np.floor(traits.joined_day).astype(np.int64)[accounts["row"].to_numpy()] * DAY_SECONDS
    return Chunk(
        index=index,
        people=people,
        traits=traits,
        accounts=accounts.with_columns(registered=pl.Series(registered)),
        factors=person_factors(traits, catalogue, random_stream(spec, "preferences", index)),
        arm=assign_arms(people["number"].to_numpy(), spec.seed),
        visit_draws=random_stream(spec, "visits", index).random(100_003),
    )
