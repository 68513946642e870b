"""The contract between training and serving: tensor specifications and the files of a model folder.

Training exports a model as a folder:

    <name>/contract.json    ModelContract: tensors, files with SHA-256, what it calls, what it was trained on
    <name>/golden.json      requests of synthetic customers with the answers that training gives
    <name>/metrics.json     figures with their protocol
    <name>/model.onnx       for members; routers carry data files instead (safetensors, JSON)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from shopsight.serving.names import data_path, file_path, model_name, tensor_name
from shopsight.serving.typed_json import ShapeError, build, read_object

FORMAT_VERSION = 1
_MOST = 2**31 - 1

CONTRACT_FILE = "contract.json"
GOLDEN_FILE = "golden.json"
METRICS_FILE = "metrics.json"

ModelKind = Literal["onnx", "router"]
Datatype = Literal["BOOL", "INT32", "INT64", "FP32", "BYTES"]


class ContractError(ValueError):
    """A model folder does not match its contract."""


@dataclass(frozen=True)
class Bounds:
    """Limits on a tensor of one row; None means no limit.

    max_values: number of values. max_bytes: length of each BYTES value. minimum, maximum: range of each
    number, in `unit`.
    """

    max_values: int | None = None
    max_bytes: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model: its name, Triton datatype, and dims without the batch dimension (-1: any).

    bounds: limits on the values, documented for callers; Triton's configuration cannot express them.
    """

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False
    bounds: Bounds | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        tensor_name(self.name)
        if any(abs(dim) > _MOST for dim in self.dims):
            raise ValueError(f"{self.name} has dims {self.dims}, each at most {_MOST}")


@dataclass(frozen=True)
class FileEntry:
    """One file of a model, relative to its folder."""

    path: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        file_path(self.path)


@dataclass(frozen=True)
class ModelContract:
    """Inputs, outputs, files and origin of a model.

    `max_batch_size` 0 means that the tensors have no batch dimension. `calls` names the members that a
    router asks, at its own release. `preprocessing` is JSON data with the parameters of preprocessing.
    `data_sha256` is the hash of the snapshot of tables on which it was trained.
    """

    name: str
    kind: ModelKind
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    files: tuple[FileEntry, ...] = ()
    calls: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    commit: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in (self.name, *self.calls):
            model_name(name)
        for entry in self.files:
            data_path(entry.path)
        if not 0 <= self.max_batch_size <= _MOST:
            raise ValueError(f"max_batch_size is {self.max_batch_size}, expected 0 to {_MOST}")

    def write(self, folder: Path) -> None:
        """Write `contract.json` into `folder`."""
        write_json(folder / CONTRACT_FILE, asdict(self))

    @staticmethod
    def read(folder: Path) -> ModelContract:
        """Read `contract.json` of a model folder; raises ContractError naming the file and the remedy."""
        path = folder / CONTRACT_FILE
        raw = read_json(path)
        if raw.get("format_version") != FORMAT_VERSION:
            raise ContractError(
                f"{path}: format_version is {raw.get('format_version')}, "
                f"this release reads {FORMAT_VERSION}; export the model again"
            )
        try:
            return build(ModelContract, raw)
        except ShapeError as error:
            raise ContractError(f"{path}: not a contract ({error}); export the model again") from error

    def verify_files(self, folder: Path) -> None:
        """Compare every file with its SHA-256; raises ContractError for the first that differs."""
        for entry in self.files:
            path = folder / entry.path
            if not path.is_file():
                raise ContractError(f"{path}: named by the contract but missing; export {self.name} again")
            if sha256_of(path) != entry.sha256:
                raise ContractError(f"{path}: content differs from the contract; export {self.name} again")


@dataclass(frozen=True)
class GoldenTensor:
    """A tensor as JSON: nested lists in `data`, BYTES as strings."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: list[Any]

    def __post_init__(self) -> None:
        tensor_name(self.name)


@dataclass(frozen=True)
class Golden:
    """A request of a synthetic customer with the answer that the trained model gives.

    Strings and integers must match exactly, FP32 within `tolerance` (absolute).
    """

    request: tuple[GoldenTensor, ...]
    answer: tuple[GoldenTensor, ...]
    tolerance: float = 1e-5


@dataclass(frozen=True)
class _GoldenFile:
    goldens: tuple[Golden, ...]
    format_version: int = FORMAT_VERSION


def write_goldens(folder: Path, goldens: list[Golden]) -> None:
    """Write `golden.json` into a model folder."""
    write_json(folder / GOLDEN_FILE, asdict(_GoldenFile(tuple(goldens))))


def read_goldens(folder: Path) -> list[Golden]:
    """Read `golden.json` of a model folder; raises ContractError naming the file and the field."""
    path = folder / GOLDEN_FILE
    try:
        found = build(_GoldenFile, read_json(path))
        if found.format_version != FORMAT_VERSION:
            raise ShapeError(f"format_version is {found.format_version}, this release reads {FORMAT_VERSION}")
        return list(found.goldens)
    except ShapeError as error:
        raise ContractError(f"{path}: not golden requests ({error}); export the model again") from error


def file_entry(folder: Path, name: str) -> FileEntry:
    """Describe `folder/name` with its size and SHA-256."""
    path = folder / name
    return FileEntry(path=name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ContractError naming the file when it is missing or malformed."""
    try:
        return read_object(path)
    except FileNotFoundError as error:
        raise ContractError(f"{path}: missing; export the model again") from error
    except ShapeError as error:
        raise ContractError(f"{path}: {error}; export the model again") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys, so that equal content gives equal bytes."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
