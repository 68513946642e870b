"""Models are published from one export: one that ends meanwhile is not mixed with the one before it.

An export replaces the whole folder of models in one step, so that a folder which is still the same one
afterwards was the same one all along.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class ExportReplacedError(RuntimeError):
    """Another export has taken the place of the one that was read."""


@dataclass(frozen=True)
class OneExport:
    """The folder of models as it was when it was opened; None where there was none."""

    models_dir: Path
    descriptor: int | None

    @contextmanager
    def read(self) -> Iterator[None]:
        """Read the folder for the block; raises ExportReplacedError, also after an error, if replaced."""
        try:
            yield
        except Exception as error:
            self._check(error)
            raise
        self._check(None)

    def _check(self, error: Exception | None) -> None:
        if self.descriptor is None:  # what reads it says what is missing
            return
        # The open descriptor keeps the folder's number from being given to another one.
        if not self.models_dir.exists() or not os.path.samestat(
            os.fstat(self.descriptor), self.models_dir.stat()
        ):
            raise ExportReplacedError(f"{self.models_dir} was exported again while it was read") from error


@contextmanager
def one_export(models_dir: Path) -> Iterator[OneExport]:
    """Yield the present export of `models_dir`."""
    try:
        descriptor = os.open(models_dir, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield OneExport(models_dir, None)
        return
    try:
        yield OneExport(models_dir, descriptor)
    finally:
        os.close(descriptor)
