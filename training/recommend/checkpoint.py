"""The trained recommender on disk: served and evaluated factors, ids, and the choice of settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from shopsight.training.artifacts.trained_state import TrainedState, Training, opened
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.interactions import Catalogue
from shopsight.training.recommend.mf.model import MatrixFactorization

FORMAT_VERSION = 2
FAMILY = "recommend"

_FINAL, _JUDGED = "final", "judged"
_CUSTOMERS, _ITEMS = "customers.parquet", "items.parquet"


@dataclass(frozen=True)
class Choice:
    """Settings chosen on the validation window, their recall (None without customers), and all tried."""

    unobserved_weight: float
    regularization: float
    bought_again: bool
    recall: float | None
    tried: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Trained:
    """final is fitted to all events and served; judged is fitted to events before the test window.

    Rows of the factors are the customers and items of `catalogue`, sorted.
    """

    final: MatrixFactorization
    judged: MatrixFactorization
    choice: Choice
    catalogue: Catalogue
    metrics: dict[str, Any]
    config: dict[str, Any]


def save(run: Training, trained: Trained) -> None:
    """Replace the trained recommender in one step."""
    facts = {"choice": asdict(trained.choice)}
    with run.saved(FORMAT_VERSION, trained.config, facts, trained.metrics) as folder:
        trained.final.save(folder / _FINAL)
        trained.judged.save(folder / _JUDGED)
        trained.catalogue.customer_ids.to_frame("customer_id").write_parquet(folder / _CUSTOMERS)
        trained.catalogue.item_ids.to_frame("item_id").write_parquet(folder / _ITEMS)


def load(workspace: Workspace) -> Trained:
    """Read the trained recommender as `load_current` does."""
    return load_current(workspace)[1]


def load_current(workspace: Workspace) -> tuple[TrainedState, Trained]:
    """Read the trained recommender.

    Raises NotTrained when there is none or the tables changed since, StateDamaged naming a damaged file.
    """
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        state.require_present_tables(workspace)
        folder, choice = state.folder, state.facts["choice"]
        ids = pl.read_parquet(folder / _CUSTOMERS)["customer_id"], pl.read_parquet(folder / _ITEMS)["item_id"]
        trained = Trained(
            final=MatrixFactorization.load(folder / _FINAL),
            judged=MatrixFactorization.load(folder / _JUDGED),
            choice=Choice(**(choice | {"tried": tuple(choice["tried"])})),
            catalogue=Catalogue(*ids),
            metrics=state.metrics,
            config=state.config,
        )
        return state, trained
