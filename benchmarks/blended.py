"""Retrieve, then rank on the public sets: the lists of the served blend, and of the ranker alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shopsight.serving.routing.blend import Blender
from shopsight.training.recommend.config import BLEND_SOFTNESS, BlendWeights
from shopsight.training.recommend.embedding.config import FeatureConfig, LoopConfig, RankerConfig
from shopsight.training.recommend.embedding.examples import Examples
from shopsight.training.recommend.embedding.fitting import Progress, fit
from shopsight.training.recommend.embedding.group import ALONE
from shopsight.training.recommend.embedding.ranker import Ranker, load_ranker
from shopsight.training.recommend.embedding.ranking_task import RankerTask
from shopsight.training.recommend.embedding.retrieval_task import Asked

Lists = NDArray[np.int32]
NUM_CANDIDATES = 100  # of each proposer
WEIGHTS = BlendWeights()


def ranker_config(epochs: int, seed: int) -> RankerConfig:
    """The settings of the ranker: those of the product, at the epochs of a set."""
    return RankerConfig(loop=LoopConfig(epochs=epochs, batch_size=512, patience=0, seed=seed))


def blended(
    proposers: dict[str, Lists],
    examples: Examples,
    features: FeatureConfig,
    config: RankerConfig,
    asked: Asked,
    folder: Path,
    progress: Progress,
) -> tuple[Lists, Lists]:
    """Return the blend's lists and the towers' candidates in the ranker's order, int32 [customers, asked.k].

    proposers: lists int32 [customers, NUM_CANDIDATES] by the name of their weight, -1 for none.
    """
    task = RankerTask("ranker", examples, features, config, "")
    fit(task, config.loop, folder, progress=progress)
    ranker = load_ranker(Ranker(examples.schema, config, "cpu"), folder)
    blender = Blender(None, {}, {  # type: ignore[arg-type]
        "weights": asdict(WEIGHTS), "softness": BLEND_SOFTNESS, "num_candidates": NUM_CANDIDATES,
        "max_history": features.max_history, "item_buckets": examples.schema.item_buckets, "num_facts": 0,
    })  # fmt: skip
    fused, by_ranker = [], []
    for row in range(len(asked.customer)):
        one = replace(asked, begin=asked.begin[row : row + 1], end=asked.end[row : row + 1])
        lists = {name: found[row][found[row] >= 0] for name, found in proposers.items()}
        proposal = blender.joined([(name, name, found) for name, found in lists.items()])
        with torch.no_grad():
            score = task.scores(
                ranker, one.begin, one.end, asked.customer[row : row + 1], proposal.item[None], 1, ALONE
            )[0].numpy()
        order, _ = blender.ordered(proposal, score)
        fused.append(_cut(proposal.item[order], asked.k))
        retrieved = np.isin(proposal.item, lists["towers"])
        by_ranker.append(_cut(proposal.item[np.argsort(-np.where(retrieved, score, -np.inf))], asked.k))
    return np.stack(fused), np.stack(by_ranker)


def _cut(items: NDArray[np.int64], k: int) -> Lists:
    padded = np.full(k, -1, dtype=np.int32)
    padded[: min(k, len(items))] = items[:k]
    return padded
