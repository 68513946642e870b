"""A fit loads its rows once, however often it validates, and a fit that was resumed gives the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from shopsight.kernels.cpu import als
from shopsight.serving.progress import silent
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import InCore
from shopsight.training.recommend.mf.fitting import fit_factors

CONFIG = MFConfig(num_factors=8, num_epochs=4, check_every=1, patience=9, backend="cpu")


def _matrix(seed: int, density: float) -> sparse.csr_matrix:
    return sparse.random(50, 40, density, "csr", np.float32, np.random.default_rng(seed))


TRAIN, VALIDATION = _matrix(0, 0.3), _matrix(1, 0.05)


def test_rows_are_loaded_once_however_often_a_fit_validates(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    original = als.AlsTraining.__init__

    def count(self: als.AlsTraining, *arguments: object) -> None:
        loaded.append(1)
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(als.AlsTraining, "__init__", count)
    fitted = fit_factors(TRAIN, CONFIG, VALIDATION, None, silent)
    assert len(fitted.history) == 4 and len(loaded) == 1


def test_epochs_in_pieces_are_bit_for_bit_those_that_begin_anew() -> None:
    whole = InCore(TRAIN, CONFIG)
    state = start = fit_factors(TRAIN, replace(CONFIG, num_epochs=1), None, None, silent)
    for epoch in (1, 2, 3):
        state = whole.run(state, epoch, 1, lambda _: None)
    anew = start
    for epoch in (1, 2, 3):
        anew = InCore(TRAIN, CONFIG).run(anew, epoch, 1, lambda _: None)
    assert np.array_equal(state.user_factors.array(), anew.user_factors.array())
    assert np.array_equal(state.item_factors.array(), anew.item_factors.array())
