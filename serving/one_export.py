"""Ensures that a publish reads the models of one export, even if another export ends in the meantime.

An export replaces the whole folder of models in one step. If the folder is the same one after reading, it was
the same one all the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class ExportReplacedError(RuntimeError):
    """Another export replaced the one that was being read."""


@dataclass(frozen=True)
class OneExport:
    """The folder of models as it was opened; `descriptor` is None if there was none."""

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
        if self.descriptor is None:  # the reader reports the missing folder
            return
        # While the descriptor is open, no other folder can get the same inode number.
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
