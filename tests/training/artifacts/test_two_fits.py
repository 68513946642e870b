"""Two fits in one checkpoint folder: the second is told of the first and touches nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from shopsight.training.artifacts import locks
from shopsight.training.artifacts.locks import Busy, exclusive
from shopsight.training.recommend.embedding.fitting import fit
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from tests.training.recommend.embedding.small import CONFIG, task, tastes


def _factors(folder: Path, _: Path) -> None:
    matrix = sparse.csr_matrix(np.ones((3, 2), dtype=np.float32))
    MatrixFactorization(MFConfig(num_factors=2, num_epochs=1)).fit(matrix, checkpoint=folder)


def _towers(folder: Path, scratch: Path) -> None:
    fit(task(tastes(scratch), CONFIG), CONFIG.loop, folder)


@contextmanager
def _held_elsewhere(path: Path) -> Iterator[None]:
    """Another thread holds the lock, as another process would."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive(path, "a fit"):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("start", [_factors, _towers])
def test_a_second_fit_in_a_folder_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Path, Path], None]
) -> None:
    monkeypatch.setattr(locks, "GRACE_SECONDS", 0.0)
    folder = tmp_path / "fit"
    with (
        _held_elsewhere(folder / ".fit.lock"),
        pytest.raises(Busy, match=r"'a fit' is under way \(process \d+ on "),
    ):
        start(folder, tmp_path / "examples")
    assert [path.name for path in folder.iterdir()] == [".fit.lock"]
    start(folder, tmp_path / "examples")
    assert len(list(folder.iterdir())) > 1
