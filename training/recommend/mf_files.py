"""A factorisation on disk: tensors in safetensors, the rest in JSON; a kill leaves the last good state."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

Tensors = dict[str, np.ndarray[Any, Any]]
FORMAT_VERSION = 1
INDEX = "model.json"


def write_state(folder: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write tensors under a name made of their hash, then point `model.json` at them by one rename."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "tensors.partial"
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    name = f"factors-{digest[:16]}.safetensors"
    _sync(partial)
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


def read_state(folder: Path) -> tuple[Tensors, dict[str, Any]]:
    """What `write_state` wrote; raises FileNotFoundError or ValueError naming file, fault and remedy."""
    path = folder / INDEX
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no factorisation was saved here; fit and save one, or correct the path"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        name, digest, version = facts["tensors"], facts["sha256"], facts["format_version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not an index of a factorisation ({error}); save the model again") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version}, this release reads {FORMAT_VERSION}; fit again")
    tensors_path = folder / Path(name).name
    if not tensors_path.is_file() or hashlib.sha256(tensors_path.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{tensors_path}: missing or not what {path} names by SHA-256; save the model again")
    return load_file(tensors_path), facts


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
