"""A graph filter that needs no training: blur, ideal low-pass, sharpen."""

from __future__ import annotations

from math import factorial

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from shopsight.kernels.graph_filter import graph_filter
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.model import HistoryModel
from shopsight.training.recommend.neighbours.selection import Float32

_ORDER = 4  # of the Runge-Kutta step


class GraphFilter(HistoryModel):
    """Blurs a history over the graph of items, adds its low frequencies, and sharpens both.

    With R the customers' items (ones), scaled to R' = D_u^-1/2 R D_i^-1/2 by the degrees of customers and
    items, P = R'ᵀR' and x a history as a row, the scores are (x P + low_pass_weight x L) S. L is the ideal
    low-pass D_i^-1/2 V Vᵀ D_i^1/2 with the `num_frequencies` first right singular vectors V of R'. S is one
    Runge-Kutta step of fourth order of dx/dt = -x P over the time `sharpening`:
    Σ_k (-sharpening P)^k / k!, k from 0 to 4. Source: Choi et al. (2023), "Blurring-Sharpening Process Models
    for Collaborative Filtering", early merge; Shen et al. (2021), "How powerful is graph convolution for
    recommendation?", for the low-pass. The defaults are those that the authors publish for gowalla.

    half_life: see HistoryModel; without fading the order of a history does not matter. seed: of the
    singular vectors, found by random projections (Halko et al., 2011). backend: "auto", "cpu" or "cuda".
    """

    def __init__(
        self,
        *,
        sharpening: float = 2.5,
        low_pass_weight: float = 0.2,
        num_frequencies: int = 448,
        half_life: float = np.inf,
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__(half_life)
        for name, value in (("sharpening", sharpening), ("low_pass_weight", low_pass_weight)):
            if not 0 <= value < np.inf:
                raise ValueError(f"{name}={value}: must be finite and 0 or above")
        if num_frequencies < 1:
            raise ValueError(f"num_frequencies={num_frequencies}: must be at least 1")
        self.sharpening, self.low_pass_weight = sharpening, low_pass_weight
        self.num_frequencies, self.seed, self.backend = num_frequencies, seed, backend

    def _learn(self, histories: Histories) -> None:
        weights = histories.weights()
        by_item = _inverse_roots(weights.sum(axis=0))
        self._scaled = sparse.diags(_inverse_roots(weights.sum(axis=1))) @ weights @ sparse.diags(by_item)
        self._scaled = sparse.csr_matrix(self._scaled, dtype=np.float32)
        self._scaled.sort_indices()
        self._sharpen = [(-self.sharpening) ** k / factorial(k) for k in range(_ORDER + 1)]
        waves = self._low_frequencies()
        self._into = by_item[:, None] * waves
        unscaled = np.divide(1, by_item, out=np.zeros_like(by_item), where=by_item > 0)
        self._out = np.float32(self.low_pass_weight) * self._filtered(
            unscaled[:, None] * waves, self._sharpen
        )

    def _low_frequencies(self) -> Float32:
        """Return the first right singular vectors of the scaled matrix, float32 [items, frequencies]."""
        most = min(self._scaled.shape)
        if not most or not self._scaled.nnz:
            return np.zeros((self.num_items, 1), np.float32)
        number = min(self.num_frequencies, most)
        waves = randomized_svd(self._scaled, number, n_iter=4, random_state=self.seed)[2]
        return np.ascontiguousarray(waves.T, dtype=np.float32)

    def _scores(self, asked: sparse.csr_matrix) -> Float32:
        signals = np.ascontiguousarray(asked.toarray().T)
        blurred = self._filtered(signals, [0.0, *self._sharpen])
        return np.asarray(blurred.T + (asked @ self._into) @ self._out.T, dtype=np.float32)

    def _filtered(self, signals: Float32, coefficients: list[float]) -> Float32:
        return graph_filter(
            self._scaled.indptr.astype(np.int64),
            self._scaled.indices.astype(np.int32),
            self._scaled.data,
            signals,
            coefficients,
            backend=self.backend,
        )


def _inverse_roots(degrees: np.matrix) -> Float32:
    """Return degrees^-1/2, 0 for a degree of 0, float32 [n]."""
    flat = np.asarray(degrees, dtype=np.float64).ravel()
    return np.divide(1, np.sqrt(flat), out=np.zeros_like(flat), where=flat > 0).astype(np.float32)
