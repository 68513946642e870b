"""What a contract's `preprocessing` says, read so that a key which it lacks is refused with the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from shopsight.serving.contract import CONTRACT_FILE, ContractError, ModelContract

T = TypeVar("T")


class Settings(Mapping[str, Any]):
    """The keys of `preprocessing`, or of an object in it, whose objects are Settings as well.

    Asking for a key that is not there raises ContractError naming the file, the key and the remedy; `get`
    and `in` are for keys that a release may lack.
    """

    def __init__(self, raw: Mapping[str, Any], path: Path, where: str = "preprocessing") -> None:
        self._raw, self._path, self._where = raw, path, where

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """Read those of a model folder; raises ContractError for a contract that cannot be read."""
        return cls(ModelContract.read(folder).preprocessing, folder / CONTRACT_FILE)

    def __getitem__(self, key: str) -> Any:
        if key not in self._raw:
            raise ContractError(
                f"{self._path}: {self._where} has no '{key}', so the release was exported by another version "
                "of shopsight; run 'shopsight export' with this one and publish again"
            )
        return self._inside(self._raw[key], f"{self._where}.{key}")

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key that a release may lack."""
        return default if key not in self._raw else self[key]

    def build(self, kind: type[T]) -> T:
        """Return the dataclass `kind` with the keys that are its fields."""
        return kind(**{field.name: self[field.name] for field in fields(kind)})  # type: ignore[arg-type]

    def _inside(self, value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            return Settings(value, self._path, where)
        if isinstance(value, list):
            return [self._inside(one, f"{where}[{i}]") for i, one in enumerate(value)]
        return value
