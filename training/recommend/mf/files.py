"""A factorisation on disk: tensors in safetensors, the rest in JSON, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from shopsight.training.artifacts.factor_store import InFile
from shopsight.training.artifacts.tensor_file import Tensors, read_tensors, sha256_of_file, write_tensors

FORMAT_VERSION = 1
INDEX = "model.json"


def write_state(folder: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write tensors to a file named by their hash, then rename a new `model.json`, which refers to it."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "tensors.partial"
    digest = write_tensors(partial, tensors)
    name = f"factors-{digest[:16]}.safetensors"
    partial.replace(folder / name)
    index = {"format_version": FORMAT_VERSION, "tensors": name, "sha256": digest, **facts}
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _sync(partial)
    partial.replace(folder / INDEX)
    _sync(folder)
    for old in folder.glob("factors-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_state(folder: Path) -> tuple[dict[str, InFile], dict[str, Any]]:
    """Read what `write_state` wrote; raises FileNotFoundError or ValueError naming file, fault and remedy."""
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no factorisation was saved here; fit and save one, or correct the path"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        name, digest, version = facts["tensors"], facts["sha256"], facts["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an index of a factorisation ({error}); save the model again") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version}, this release reads {FORMAT_VERSION}; fit again")
    tensors_path = folder / Path(name).name
    if not tensors_path.is_file() or sha256_of_file(tensors_path) != digest:
        raise ValueError(f"{tensors_path}: missing or not what {path} names by SHA-256; save the model again")
    return read_tensors(tensors_path), facts


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
