"""Checkpoints of sharded models: written atomically by all workers, read by any number of workers.

<folder>/step-000001200/shard-*.safetensors    torch.distributed.checkpoint, each worker its own part
<folder>/step-000001200/manifest.json          fingerprint of the fit, its position, SHA-256 of each file
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader as dcp_loader
from torch.distributed.checkpoint import state_dict_saver as dcp_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import WriteItem

from shopsight.serving.contract import ContractError, file_entry, read_json, sha256_of, write_json
from shopsight.serving.durable import flush_folder
from shopsight.serving.progress import Progress
from shopsight.serving.safetensors_layout import TensorFileError, read_layout
from shopsight.training.recommend.embedding.group import Group
from shopsight.training.recommend.embedding.quiet import quiet

FORMAT_VERSION = 2  # 1: the dense layers read embeddings in the order of the sharding plan
_MANIFEST = "manifest.json"
_KEPT = 2
MODEL = "model."  # before the names of what belongs to the model, optimisers apart
_CORRUPT = "cut off or changed"

State = dict[str, Any]  # name to Tensor or ShardedTensor


class _ShardWriter(HuggingFaceStorageWriter):  # type: ignore[misc]
    """Writes the n-th shard that a worker has of a tensor into its n-th file.

    torch's writer keeps one tensor per name and file: of two column-wise shards on one worker it would
    silently lose the first.
    """

    def _split_by_storage_plan(
        self, storage_plan: dict[str, int] | None, items: list[WriteItem]
    ) -> dict[int, list[WriteItem]]:
        del storage_plan
        files: dict[int, list[WriteItem]] = {}
        num_shards: Counter[str] = Counter()
        for item in items:
            num_shards[item.index.fqn] += 1
            files.setdefault(num_shards[item.index.fqn], []).append(item)
        return files


class CheckpointMismatch(ValueError):  # noqa: N818 - reads as what happened
    """A checkpoint is of another configuration, catalogue, data or format than the fit that would use it."""


class CheckpointDamaged(ValueError):  # noqa: N818 - reads as what happened
    """No checkpoint of a fit is intact."""


@dataclass(frozen=True)
class Position:
    """The position of a fit: epochs done, steps done of the next epoch, and the reports so far.

    loss_sums: each worker's sum of losses in the current epoch. complete: whether the fit has ended.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    loss_sums: tuple[float, ...] = ()
    reports: tuple[dict[str, Any], ...] = ()
    complete: bool = False


def save(
    folder: Path, state: State, position: Position, fingerprint: Mapping[str, Any], group: Group
) -> Path:
    """Write a checkpoint and keep the last two; collective. Returns its folder.

    After an exception, such as a full disk, the earlier checkpoints are unchanged.
    """
    final = folder / f"step-{position.total_steps:09d}"
    staging = folder / f".{final.name}.new"
    if group.is_first:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    group.barrier()
    try:
        dcp_saver.save(state, storage_writer=_ShardWriter(str(staging), save_distributed=True))
        if group.is_first:
            _check_whole(staging, state)
            _seal(staging, final, position, fingerprint, group.share.num_workers)
            _forget_older(folder)
    except BaseException as error:
        if group.is_first:
            shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, CheckpointException):  # it wraps the error of each worker, such as a full disk
            raise next(iter(error.failures.values()))[0] from error
        raise
    group.barrier()
    return final


def restore(
    folder: Path,
    state: State,
    fingerprint: Mapping[str, Any],
    group: Group,
    progress: Progress,
) -> Position:
    """Read the last good checkpoint into `state`, in place; collective. Returns the position of the fit.

    The number of workers may differ from that at writing. Damaged checkpoints are reported and skipped.
    Raises CheckpointMismatch naming what differs, CheckpointDamaged when there are some and none is whole.
    """
    problem, found = None, None
    if group.is_first:
        try:
            found = last_good(folder, fingerprint, progress)
        except ValueError as error:
            problem = error
    problem, found = group.from_first((problem, found))
    if problem is not None:
        raise problem
    if found is None:
        return Position()
    name, manifest = found
    dcp_loader.load(state, storage_reader=HuggingFaceStorageReader(str(folder / name)))
    return _position(manifest)


def last_good(
    folder: Path, fingerprint: Mapping[str, Any] | None, progress: Progress
) -> tuple[str, dict[str, Any]] | None:
    """Return name and manifest of the latest intact checkpoint; None if there is no checkpoint.

    Raises as `restore` does; without a fingerprint any checkpoint of this format is accepted.
    """
    names = sorted((path.name for path in folder.glob("step-*")), reverse=True)
    for name in names:
        try:
            manifest = _verified(folder / name)
        except ContractError as error:
            progress(f"{error}; going on from the checkpoint before it")
            continue
        if fingerprint is not None:
            _compare(folder / name, manifest["fingerprint"], dict(fingerprint))
        return name, manifest
    if names:
        raise CheckpointDamaged(
            f"{folder}: none of {', '.join(names)} is whole; remove the folder to fit anew, or restore it"
        )
    return None


def weights(folder: Path) -> dict[str, Tensor]:
    """Return the whole model of the last good checkpoint on the CPU, name to tensor, without workers.

    Raises CheckpointDamaged where there is no whole one, CheckpointMismatch where it has another format.
    """
    found = last_good(folder, None, lambda _: None)
    if found is None:
        raise CheckpointDamaged(f"{folder}: holds no checkpoint; train first")
    reader = HuggingFaceStorageReader(str(folder / found[0]))
    parts = {
        name: torch.empty(tensor.size, dtype=tensor.properties.dtype)
        for name, tensor in reader.read_metadata().state_dict_metadata.items()
        if name.startswith(MODEL) and isinstance(tensor, TensorStorageMetadata)
    }
    with quiet():
        dcp_loader.load(parts, storage_reader=HuggingFaceStorageReader(str(folder / found[0])), no_dist=True)
    return {name.removeprefix(MODEL): tensor for name, tensor in parts.items()}


def _check_whole(staging: Path, state: State) -> None:
    """Raise RuntimeError unless the files hold every element of each tensor once."""
    written = HuggingFaceStorageReader(str(staging)).read_metadata().state_dict_metadata
    for name, tensor in state.items():
        chunks = getattr(written.get(name), "chunks", [])
        held, numel = sum(chunk.sizes.numel() for chunk in chunks), tensor.size().numel()
        if held != numel:
            raise RuntimeError(f"{staging}: {name} has {numel} elements, of which {held} were written")


def _seal(
    staging: Path, final: Path, position: Position, fingerprint: Mapping[str, Any], num_workers: int
) -> None:
    files = sorted(path.name for path in staging.iterdir())
    for name in files:
        with (staging / name).open("rb") as stream:
            os.fsync(stream.fileno())
    manifest = {
        "format_version": FORMAT_VERSION,
        "fingerprint": dict(fingerprint),
        "position": vars(position) | {"loss_sums": list(position.loss_sums)},
        "num_workers": num_workers,
        "files": [vars(file_entry(staging, name)) for name in files],
    }
    write_json(staging / _MANIFEST, manifest)
    with (staging / _MANIFEST).open("rb") as stream:
        os.fsync(stream.fileno())
    flush_folder(staging)
    if final.exists():  # a damaged one that the fit has passed again
        shutil.rmtree(final)
    staging.rename(final)
    flush_folder(final.parent)


def _forget_older(folder: Path) -> None:
    for path in sorted(folder.glob("step-*"))[:-_KEPT]:
        shutil.rmtree(path)


def _verified(path: Path) -> dict[str, Any]:
    manifest = read_json(path / _MANIFEST)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise CheckpointMismatch(
            f"{path}: format_version {manifest.get('format_version')} is not {FORMAT_VERSION}; in format "
            "1 the layers read the embeddings in the order in which the tables were sharded, so that its "
            f"weights give other answers than were trained; remove {path.parent} to fit anew"
        )
    for entry in manifest["files"]:
        file = path / entry["path"]
        if not file.is_file() or sha256_of(file) != entry["sha256"]:
            raise ContractError(f"{file}: {_CORRUPT}")
    _check_shards(path, {entry["path"] for entry in manifest["files"]})
    return manifest


def _check_shards(path: Path, listed: set[str]) -> None:
    """Check every shard in the folder with our own reader, because torch would read all of them."""
    for shard in sorted(path.glob("*.safetensors")):
        if shard.name not in listed:
            raise ContractError(f"{shard}: not in {_MANIFEST}")
        try:
            read_layout(shard)
        except TensorFileError as error:
            raise ContractError(f"{error}") from error


def _compare(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if differing:
        changes = ", ".join(f"{name} {theirs.get(name)} is now {ours.get(name)}" for name in differing)
        raise CheckpointMismatch(
            f"{path} was made with other settings or data: {changes}; go back to them, or remove "
            f"{path.parent} to fit anew"
        )


def _position(manifest: dict[str, Any]) -> Position:
    raw = manifest["position"]
    return Position(**(raw | {"loss_sums": tuple(raw["loss_sums"]), "reports": tuple(raw["reports"])}))
