"""Allowed names of models, of tensors and of the files in a model's folder.

Names come from files that may have been altered. Every other name is refused before it reaches the file
system or Triton.
"""

from __future__ import annotations

import re

# `model.onnx` may keep its weights beside it. Code and configurations are never data of a model.
DATA_SUFFIXES = (".bin", ".data", ".json", ".onnx", ".safetensors")

_MODEL = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TENSOR = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Windows opens a device under these names, and a repository may be copied to such a machine.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class NameRefusedError(ValueError):
    """A name that is not allowed as a path."""


def model_name(name: str) -> str:
    """Return a model's name; raises NameRefusedError when it is not one."""
    if not _MODEL.fullmatch(name) or _DEVICES.fullmatch(name):
        raise NameRefusedError(
            f"{name!r} is not a model's name: it takes a to z, 0 to 9 and _, begins with a letter, "
            "has at most 64 characters, and is not the name of a device"
        )
    return name


def tensor_name(name: str) -> str:
    """Return a tensor's name; raises NameRefusedError when it is not one."""
    if not _TENSOR.fullmatch(name) or _DEVICES.fullmatch(name):
        raise NameRefusedError(
            f"{name!r} is not a tensor's name: it takes letters, digits and _, begins with a letter, "
            "and has at most 64 characters"
        )
    return name


def file_path(path: str) -> str:
    """Return the relative path of a model's file; raises NameRefusedError when it could lead elsewhere."""
    parts = path.split("/")
    if len(parts) > 2 or not all(_FILE.fullmatch(part) and not _DEVICES.fullmatch(part) for part in parts):
        raise NameRefusedError(
            f"{path!r} is not a path inside a model's folder: it takes letters, digits, '_', '-' and '.', "
            "does not begin with '.', and has at most one folder"
        )
    return path


def data_path(path: str) -> str:
    """Return the path of a file that training exported; raises NameRefusedError when it may be code."""
    if not file_path(path).endswith(DATA_SUFFIXES):
        raise NameRefusedError(f"{path!r} is no data file: its name must end in {', '.join(DATA_SUFFIXES)}")
    return path
