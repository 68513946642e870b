"""The search of `tune embedding`: the towers measured on the validation window after every epoch."""

from __future__ import annotations

from pathlib import Path

from shopsight.training.artifacts.family import Keep, NobodyToEvaluate, Search
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.recommend.embedding.config import EmbeddingConfig


def _fit(workspace: Workspace, config: EmbeddingConfig, folder: Path, keep: Keep) -> None:
    from shopsight.training.artifacts.snapshots import snapshot_sha256
    from shopsight.training.recommend.embedding import trainer
    from shopsight.training.recommend.embedding.fitting import fit
    from shopsight.training.recommend.embedding.measuring import shop_of

    trainer.prepare(workspace, config, folder, lambda _: None)
    task = trainer.task(folder, "chosen", config, snapshot_sha256(workspace.tables))
    if not task.is_judged:
        cut = shop_of(workspace, config).windows
        raise NobodyToEvaluate.between(cut.validation, cut.test)
    fit(task, config.two_tower.loop, folder / "chosen", on_epoch=lambda one: keep(one.epoch, one.metrics))


SEARCH = Search(
    space={
        "embedding.two_tower.dim": [32, 64, 128],
        "embedding.two_tower.temperature": {"low": 0.05, "high": 0.3, "log": True},
        "embedding.two_tower.popularity_correction": {"low": 0.0, "high": 1.0},
        "embedding.two_tower.loop.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "embedding.two_tower.loop.embedding_learning_rate": {"low": 0.01, "high": 0.3, "log": True},
    },
    read=("embedding.features", "embedding.two_tower"),
    measured_by=frozenset(
        {"embedding.k", "embedding.test_days", "embedding.max_judged", "embedding.two_tower.loop.seed"}
    ),
    num_epochs=lambda config: config.two_tower.loop.epochs,
    fit=_fit,
)
