"""What training leaves: the served factors, the judged ones, ids, and how settings were chosen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from serving.contract import METRICS_FILE, read_json, write_json
from training.checkpoints import NotTrained, folder_of, read_state
from training.data.tables import snapshot_sha256
from training.export import replaced_folder
from training.recommend.interactions import Catalogue
from training.recommend.mf import MatrixFactorization
from training.workspace import Workspace

FORMAT_VERSION = 1
FAMILY = "recommend"

_STATE = "recommend.json"
_FINAL, _JUDGED = "final", "judged"
_CUSTOMERS, _ITEMS = "customers.parquet", "items.parquet"


@dataclass(frozen=True)
class Choice:
    """Settings chosen on the validation window, their recall there, and all that were tried."""

    unobserved_weight: float
    regularization: float
    bought_again: bool
    recall: float
    tried: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Trained:
    """final is fitted to everything and served; judged to what lies before the test window.

    Rows of the factors are the customers and items of `catalogue`, sorted.
    """

    final: MatrixFactorization
    judged: MatrixFactorization
    choice: Choice
    catalogue: Catalogue
    data_sha256: str
    metrics: dict[str, Any]
    config: dict[str, Any]


def save(workspace: Workspace, trained: Trained) -> None:
    """Replace `checkpoints/recommend` in one step."""
    with replaced_folder(folder_of(workspace, FAMILY)) as folder:
        trained.final.save(folder / _FINAL)
        trained.judged.save(folder / _JUDGED)
        trained.catalogue.customer_ids.to_frame("customer_id").write_parquet(folder / _CUSTOMERS)
        trained.catalogue.item_ids.to_frame("item_id").write_parquet(folder / _ITEMS)
        write_json(folder / METRICS_FILE, trained.metrics)
        state = {
            "format_version": FORMAT_VERSION,
            "choice": asdict(trained.choice),
            "data_sha256": trained.data_sha256,
            "config": trained.config,
        }
        write_json(folder / _STATE, state)


def load(workspace: Workspace) -> Trained:
    """Read `checkpoints/recommend`; raises NotTrained when it is missing or older than the tables."""
    state = read_state(workspace, FAMILY, _STATE, FORMAT_VERSION)
    folder = folder_of(workspace, FAMILY)
    if state["data_sha256"] != snapshot_sha256(workspace.tables):
        raise NotTrained(
            f"{workspace.tables} changed since the recommender was trained; run 'shopsight train recommend'"
        )
    return Trained(
        final=MatrixFactorization.load(folder / _FINAL),
        judged=MatrixFactorization.load(folder / _JUDGED),
        choice=Choice(**(state["choice"] | {"tried": tuple(state["choice"]["tried"])})),
        catalogue=Catalogue(
            pl.read_parquet(folder / _CUSTOMERS)["customer_id"], pl.read_parquet(folder / _ITEMS)["item_id"]
        ),
        data_sha256=state["data_sha256"],
        metrics=read_json(folder / METRICS_FILE),
        config=state["config"],
    )
