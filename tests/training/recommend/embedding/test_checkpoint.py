"""Checkpoints are whole or not there; a damaged one is named and passed over, the one before it serves."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from shopsight.serving.contract import file_entry, read_json, write_json
from shopsight.training.recommend.embedding import checkpoint
from shopsight.training.recommend.embedding.checkpoint import (
    CheckpointDamaged,
    CheckpointMismatch,
    last_good,
    weights,
)
from shopsight.training.recommend.embedding.fitting import fit
from tests.training.recommend.embedding.small import CONFIG, task, tastes, ways

EVERY = ways(CONFIG, "table_wise", checkpoint_steps=4, epochs=1)


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    examples = tastes(tmp_path / "data")
    fit(task(examples, EVERY), EVERY.loop, tmp_path / "fit")
    return tmp_path


def _again(
    folder: Path, config: Any = EVERY, said: list[str] | None = None, seed: int = 0, **more: Any
) -> None:
    examples = tastes(folder / f"data-{seed}", seed, **more)
    heard: list[str] = [] if said is None else said
    fit(task(examples, config), config.loop, folder / "fit", progress=heard.append)


def test_the_last_two_are_kept_and_hold_safetensors_alone(fitted: Path) -> None:
    lock, *steps = sorted(path.name for path in (fitted / "fit").iterdir())
    assert lock == ".fit.lock"
    assert len(steps) == 2 and all(name.startswith("step-") for name in steps)
    kinds = {path.suffix for path in (fitted / "fit").glob("step-*/**/*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}


@pytest.mark.parametrize(
    "how", ["cut off", "changed", "without its manifest", "with a shard more", "overlapping"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_gone_on_from(fitted: Path, how: str) -> None:
    wanted = weights(fitted / "fit")
    last = sorted((fitted / "fit").iterdir())[-1]
    shard = next(last.glob("*.safetensors"))
    if how == "cut off":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif how == "changed":
        shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    elif how == "with a shard more":
        shutil.copy(shard, last / "shard-99999-model-00001-of-00001.safetensors")
    elif how == "overlapping":  # sealed again by who altered it, so that its hash is right
        place = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
        header = json.dumps({"a": place, "b": place}).encode()
        shard.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        manifest = json.loads((last / "manifest.json").read_text())
        files = [vars(file_entry(last, entry["path"])) for entry in manifest["files"]]
        (last / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
    else:
        (last / "manifest.json").unlink()
    said: list[str] = []
    _again(fitted, said=said)
    assert any(last.name in line and "the checkpoint before it" in line for line in said)
    again = weights(fitted / "fit")
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)


def test_no_whole_checkpoint_is_an_error_that_says_what_to_do(fitted: Path) -> None:
    for shard in (fitted / "fit").rglob("*.safetensors"):
        shard.write_bytes(b"")
    with pytest.raises(CheckpointDamaged, match="remove the folder to fit anew"):
        _again(fitted)


def test_other_settings_data_or_catalogue_are_refused_by_name_and_harm_nothing(fitted: Path) -> None:
    before = last_good(fitted / "fit", None, print)
    with pytest.raises(CheckpointMismatch, match="batch_size 50 is now 49"):
        _again(fitted, ways(CONFIG, "table_wise", batch_size=49))
    with pytest.raises(CheckpointMismatch, match="catalogue_sha256"):
        _again(fitted, item_ids=[f"j{number}" for number in range(36)])
    with pytest.raises(CheckpointMismatch, match="num_examples"):
        _again(fitted, seed=1)
    assert last_good(fitted / "fit", None, print) == before


def test_a_checkpoint_of_the_format_that_read_embeddings_by_place_is_refused(fitted: Path) -> None:
    for manifest in (fitted / "fit").glob("*/manifest.json"):
        write_json(manifest, read_json(manifest) | {"format_version": 1})
    refused = r"format_version 1 is not 2.*in the order in which the tables were sharded.*to fit anew"
    with pytest.raises(CheckpointMismatch, match=refused):
        _again(fitted)
    with pytest.raises(CheckpointMismatch, match=refused):
        weights(fitted / "fit")


def test_a_shard_that_was_not_written_is_noticed_before_the_checkpoint_stands(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = last_good(fitted / "fit", None, print)
    # torch's own writer keeps the last of two column-wise shards on one worker.
    monkeypatch.setattr(checkpoint, "_ShardWriter", HuggingFaceStorageWriter)
    split = ways(CONFIG, "column_wise", epochs=2)
    with pytest.raises(RuntimeError, match="elements, of which"):
        _again(fitted, split)
    monkeypatch.undo()
    assert last_good(fitted / "fit", None, print) == before


def test_more_epochs_go_on_and_another_sharding_is_no_mismatch(fitted: Path) -> None:
    said: list[str] = []
    _again(fitted, ways(CONFIG, "row_wise", checkpoint_steps=4, epochs=2), said)
    assert any("goes on after step" in line for line in said)
    assert sum("epoch" in line for line in said) == 1


def test_a_full_disk_leaves_the_last_good_checkpoint(fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = last_good(fitted / "fit", None, print)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", full)
    with pytest.raises(OSError, match="No space left"):
        _again(fitted, ways(CONFIG, "table_wise", epochs=2))
    monkeypatch.undo()
    assert last_good(fitted / "fit", None, print) == before
    assert [path.name for path in (fitted / "fit").glob(".*")] == [".fit.lock"]
