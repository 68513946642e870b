"""Kills a fit before each of its changes to the disk in turn, and says where the resumed fit ended.

Run as a process of its own, which forks: the fit dies without a chance to tidy up.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from shopsight.training.recommend.mf import memory
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from tests.reliability.dying import die_before, is_killed_in_child

_CHANGES = ("replace", "unlink", "fsync", "open")
BASE = MFConfig(num_factors=6, num_epochs=3, regularization=0.05, validation_k=5, patience=9, backend="cpu")


def kill_fits(folder: Path, config: MFConfig) -> list[dict[str, Any]]:
    """Return for each step: whether the fit was killed, and whether the resumed one ended like the whole."""
    train, later = _data(1), _data(2)
    held_out = later - later.multiply(train > 0)  # nothing that is fitted to is held out
    held_out.eliminate_zeros()

    def fit(checkpoint: Path | None, say: Callable[[str], None] = lambda _: None) -> str:
        model = MatrixFactorization(config).fit(
            train, validation=held_out, checkpoint=checkpoint, progress=say
        )
        parts = (
            model.user_factors,
            model.item_factors,
            model.user_bias,
            np.array(json.dumps(model.history, sort_keys=True)),
        )
        return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in parts)).hexdigest()

    whole = fit(None)
    results = []
    for step in itertools.count():
        checkpoint = folder / f"killed-{step}"
        killed = is_killed_in_child(lambda where=checkpoint, at=step: _fit_and_die(fit, where, at))
        lines: list[str] = []
        same = fit(checkpoint, lines.append) == whole
        resumed = next((line for line in lines if line.startswith("resuming after epoch")), "")
        left = [p.name for p in checkpoint.iterdir() if p.name.endswith((".partial", ".scratch"))]
        results.append({"killed": killed, "same": same, "resumed": resumed[:22], "left": left})
        if not killed:
            return results
    raise AssertionError


def _data(seed: int) -> sparse.csr_matrix:
    users, items = np.random.default_rng(seed).zipf(1.5, (2, 900)) % np.array([[80], [50]])
    return sparse.csr_matrix((np.ones(900, np.float32), (users, items)), (80, 50))


def _fit_and_die(fit: Callable[[Path], str], checkpoint: Path, step: int) -> None:
    die_before(step, _CHANGES)
    fit(checkpoint)


if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    if settings.get("memory_limit_gib"):
        memory._SLABS_BYTES, memory._LEAST_COLUMNS = 0, 16
    os.fsync = lambda _: None  # a kill is not a power cut: the kernel keeps what was written
    json.dump(kill_fits(Path(sys.argv[1]), MFConfig(**(vars(BASE) | settings))), sys.stdout)
