"""RecTools' two towers (DSSM) over the same events, run by bench_embedding in an environment that has them.

python two_tower_peer.py EVENTS EPOCHS DIM BATCH  ->  one line of JSON: versions, seconds of each epoch

An epoch takes one example of each customer; customers and items are told apart by their ids, one-hot, as
DSSM asks for features of both.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
import warnings

import pandas as pd
import torch
from pytorch_lightning import Callback
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import DSSMModel

BEGAN: list[float] = []
ENDED: list[float] = []


class Clock(Callback):
    """Notes when each epoch of training begins and ends; the model trains with a copy of it."""

    def on_train_epoch_start(self, *_: object) -> None:
        """An epoch begins."""
        BEGAN.append(time.perf_counter())

    def on_train_epoch_end(self, *_: object) -> None:
        """An epoch ends."""
        ENDED.append(time.perf_counter())


def main(path: str, epochs: int, dim: int, batch: int) -> None:
    """Fit and tell."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    events = pd.read_csv(path)
    frame = events.rename(columns={"customer": Columns.User, "item": Columns.Item})
    frame = frame.assign(**{Columns.Weight: 1.0, Columns.Datetime: pd.Timestamp("2026-01-01")})
    users = pd.DataFrame({"id": frame[Columns.User].unique(), "feature": "user"})
    items = pd.DataFrame({"id": frame[Columns.Item].unique(), "feature": "item"})
    dataset = Dataset.construct(
        frame,
        user_features_df=users.assign(value=users["id"].astype(str)),
        cat_user_features=["user"],
        item_features_df=items.assign(value=items["id"].astype(str)),
        cat_item_features=["item"],
    )
    model = DSSMModel(
        n_factors=dim, max_epochs=epochs, batch_size=batch, trainer_sanity_steps=0, trainer_accelerator="cpu",
        callbacks=[Clock()], loggers=False,
    )  # fmt: skip
    model.fit(dataset)
    seconds = [end - begin for begin, end in zip(BEGAN, ENDED, strict=True)]
    versions = {name: importlib.metadata.version(name) for name in ("rectools", "torch", "pytorch-lightning")}
    print(json.dumps({"versions": versions, "seconds": seconds, "examples": len(users), "dim": dim}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
