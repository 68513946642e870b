"""Writes a trained model as a folder for serving: staged, with a contract, replaced atomically."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from shopsight.serving.contract import ModelContract, ModelKind, TensorSpec, file_entry
from shopsight.training.artifacts.checkout import commit
from shopsight.training.artifacts.folders import link_tree, replaced_folder
from shopsight.training.artifacts.locks import exclusive
from shopsight.training.artifacts.workspace import Workspace


@contextmanager
def models_replaced(workspace: Workspace) -> Iterator[Workspace]:
    """Yield the workspace with a staged copy of its models, which replaces `models/` when the block ends.

    The models of one export become visible together or not at all. After an exception they are unchanged.
    """
    with changing_models(workspace, "export"), replaced_folder(workspace.models) as staging:
        if workspace.models.is_dir():
            link_tree(workspace.models, staging)
        yield replace(workspace, staged_models=staging)


@contextmanager
def changing_models(workspace: Workspace, work: str) -> Iterator[None]:
    """Hold the lock on a workspace's models for the block; waits for another holder."""
    with exclusive(workspace.root / ".models.lock", work, wait=True):
        yield


@contextmanager
def model_folder(workspace: Workspace, name: str) -> Iterator[Path]:
    """Yield a staging folder that replaces `models/<name>` when the block ends without an exception."""
    with replaced_folder(workspace.models / name) as staging:
        yield staging


def write_contract(
    folder: Path,
    *,
    data_sha256: str,
    name: str,
    kind: ModelKind,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    max_batch_size: int,
    files: Sequence[str],
    calls: Sequence[str] = (),
    preprocessing: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> ModelContract:
    """Write `contract.json` for the files already in `folder` and return it.

    data_sha256: hash of the tables that the model was trained on. The contract records the commit of the
    running code. Tensors are given without the batch dimension.
    """
    contract = ModelContract(
        name=name,
        kind=kind,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        max_batch_size=max_batch_size,
        files=tuple(file_entry(folder, file) for file in files),
        calls=tuple(calls),
        preprocessing=dict(preprocessing or {}),
        config=dict(config or {}),
        data_sha256=data_sha256,
        commit=commit(),
    )
    contract.write(folder)
    return contract
