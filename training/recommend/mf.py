"""Matrix factorisation with the conventions of the field: fit, recommend, explain, save, load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from kernels import backend as backends
from kernels.als import DivergenceError
from kernels.fold_in import fold_in
from kernels.rows import Factors, Float32, Int32
from kernels.topk import topk
from training.recommend.memory import plan_memory
from training.recommend.mf_files import read_state, write_state
from training.recommend.mf_fitting import Fitted, fit_factors
from training.recommend.objective import MFConfig, canonical, rows_of

Progress = Callable[[str], None]


class MatrixFactorization:
    """Users and items as vectors whose inner product ranks: implicit feedback or explicit ratings.

    After `fit`: user_factors [users, f] and item_factors [items, f] in the storage type, user_bias and
    item_bias float32 (zeros unless ratings are explicit), mean float, history (what `validation` said,
    epoch by epoch) and user_items, the canonical matrix that `recommend` masks and `explain` cites.
    """

    user_factors: Factors
    item_factors: Factors
    user_bias: Float32
    item_bias: Float32
    mean: float
    history: list[dict[str, float]]
    user_items: sparse.csr_matrix

    def __init__(self, config: MFConfig | None = None) -> None:
        self.config = config or MFConfig()
        self._gramian: NDArray[np.float64] | None = None

    def fit(
        self,
        user_items: sparse.csr_matrix,
        *,
        validation: sparse.csr_matrix | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> MatrixFactorization:
        """Fit to `user_items` (scipy CSR [users, items] of weights or ratings); returns self.

        With `validation` (CSR of held-out items, same shape) training stops once its figure no longer
        rises, and the best epoch's factors are kept. With `checkpoint`, a folder, the state is written every
        `check_every` epochs and an interrupted fit of the same data and settings goes on from there to
        the same bits. The first progress line is the memory plan.

        Raises: TypeError or ValueError naming what is wrong with the input; MemoryError when the plan does
        not fit; DivergenceError naming the epoch; BackendUnavailable.
        """
        say = progress or _silent
        matrix = canonical(user_items)
        if 0 in matrix.shape:
            raise ValueError(f"user_items: shape {matrix.shape} has no users or no items")
        held_out = None if validation is None else canonical(validation, "validation")
        if held_out is not None and held_out.shape != matrix.shape:
            raise ValueError(f"validation: shape {held_out.shape} must be user_items' {matrix.shape}")
        backend = backends.resolve(self.config.backend)
        plan = plan_memory(matrix.shape[0], matrix.shape[1], matrix.nnz, self.config, backend)
        say(f"{plan}, on {backend.description}")
        if not plan.fits:
            raise MemoryError(f"{plan}: it does not fit; take fewer factors or storage='float16'")
        self._take(fit_factors(matrix, self.config, held_out, checkpoint, say), matrix)
        # users end as the fold-in of their rows, so that serving, which folds in, agrees with training
        self.user_factors, self.user_bias = self._fold_in(matrix)
        return self

    def recommend(
        self,
        users: ArrayLike,
        k: int = 10,
        filter_viewed: bool = True,
        exclude_items: ArrayLike | None = None,
    ) -> tuple[Int32, Float32]:
        """The best k items of each user: (item indices int32 [n, k], scores float32 [n, k]), descending.

        `users` are row numbers of the fitted matrix. Seen items are left out unless `filter_viewed` is
        false. Slots without an item have index -1 and score -inf.
        """
        rows = self._rows(users)
        indptr, indices = None, None
        if filter_viewed:
            seen = self.user_items[rows]
            indptr, indices = seen.indptr.astype(np.int64), seen.indices.astype(np.int32)
        banned = None if exclude_items is None else np.asarray(exclude_items, dtype=np.int32)
        x, y = self.retrieval_factors()
        ids, scores = topk(
            x[rows],
            y,
            k,
            exclude_indptr=indptr,
            exclude_indices=indices,
            exclude_items=banned,
            backend=self.config.backend,
        )
        return ids, scores + np.float32(self.mean) + self.user_bias[rows, None]

    def retrieval_factors(self) -> tuple[Factors, Factors]:
        """Factors whose inner product ranks items: with explicit ratings, the item's bias as one more."""
        if self.config.objective != "explicit":
            return self.user_factors, self.item_factors
        one = np.ones((len(self.user_factors), 1), self.user_factors.dtype)
        bias = self.item_bias[:, None].astype(self.item_factors.dtype)
        return np.hstack([self.user_factors, one]), np.hstack([self.item_factors, bias])

    def similar_items(self, items: ArrayLike, k: int = 10) -> tuple[Int32, Float32]:
        """The k items nearest to each by cosine, without itself: (indices [n, k], cosines [n, k])."""
        wanted = np.atleast_1d(np.asarray(items, dtype=np.int64))
        y = self.item_factors.astype(np.float32)
        y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), np.float32(1e-12))
        own = np.arange(len(wanted) + 1, dtype=np.int64)
        return topk(
            y[wanted],
            y,
            k,
            exclude_indptr=own,
            exclude_indices=wanted.astype(np.int32),
            backend=self.config.backend,
        )

    def explain(self, user: int, item: int, num_reasons: int = 10) -> tuple[float, list[tuple[int, float]]]:
        """A score and what each seen item adds to it, largest first (Hu et al. 2008, section 5).

        The parts of all seen items sum to the score, less mean and biases when ratings are explicit.
        """
        row = self.user_items[int(self._rows([user])[0])]
        rows = rows_of(row, self.config, self.item_bias if self.config.objective == "explicit" else None)
        y = self.item_factors.astype(np.float64)
        observed = y[rows.indices]
        system = self.config.missing_weight * self.gramian() + (observed.T * rows.weight) @ observed
        system[np.diag_indices_from(system)] += rows.regularization[0]
        parts = rows.target * (observed @ np.linalg.solve(system, y[item]))
        order = np.argsort(-parts, kind="stable")[:num_reasons]
        return float(parts.sum()), [(int(rows.indices[i]), float(parts[i])) for i in order]

    def fold_in(self, user_items: sparse.csr_matrix) -> Factors:
        """Factors [rows, f] of users not seen in training, from their interactions (CSR [rows, items])."""
        factors, _ = self._fold_in(canonical(user_items))
        return factors

    def partial_fit(self, user_items: sparse.csr_matrix, users: ArrayLike) -> MatrixFactorization:
        """Refit these users to their new rows against the items as they are; returns self.

        `user_items` has one row for each of `users`; numbers beyond the last user add users, and must
        follow it without a gap. Items move only in `fit`: refit once a tenth of the interactions is new.
        """
        rows = np.asarray(users, dtype=np.int64)
        fresh = canonical(user_items)
        if fresh.shape != (len(rows), len(self.item_factors)):
            raise ValueError(f"user_items: shape {fresh.shape} must be {(len(rows), len(self.item_factors))}")
        if len(np.unique(rows)) != len(rows) or (len(rows) and rows.min() < 0):
            raise ValueError("users: must be distinct row numbers, not negative")
        num_users = max(len(self.user_factors), int(rows.max(initial=-1)) + 1)
        added = np.arange(len(self.user_factors), num_users)
        if not np.isin(added, rows).all():
            raise ValueError(f"users: new users must follow {len(self.user_factors) - 1} without a gap")
        factors, bias = self._fold_in(fresh)
        self.user_factors = np.vstack(
            [self.user_factors, np.zeros((len(added), factors.shape[1]), factors.dtype)]
        )
        self.user_bias = np.concatenate([self.user_bias, np.zeros(len(added), np.float32)])
        self.user_factors[rows], self.user_bias[rows] = factors, bias
        source = np.arange(num_users)
        source[rows] = num_users + np.arange(len(rows))
        padding = sparse.csr_matrix((len(added), fresh.shape[1]), dtype=np.float32)
        self.user_items = sparse.vstack([self.user_items, padding, fresh], format="csr")[source]
        return self

    def gramian(self) -> NDArray[np.float64]:
        """item_factorsᵀ·item_factors in float64 [f, f]: with it, folding in needs no pass over all items."""
        if self._gramian is None:
            y = self.item_factors.astype(np.float64)
            self._gramian = y.T @ y
        return self._gramian

    def save(self, folder: Path) -> None:
        """Write factors, biases and the fitted matrix (safetensors) and the settings (JSON) into `folder`."""
        tensors = {
            "user_factors": self.user_factors,
            "item_factors": self.item_factors,
            "user_bias": self.user_bias,
            "item_bias": self.item_bias,
            "user_items_indptr": self.user_items.indptr.astype(np.int64),
            "user_items_indices": self.user_items.indices.astype(np.int32),
            "user_items_data": self.user_items.data,
        }
        facts = {"config": asdict(self.config), "mean": self.mean, "history": self.history}
        write_state(Path(folder), tensors, facts)

    @classmethod
    def load(cls, folder: Path) -> MatrixFactorization:
        """The factorisation that `save` wrote; raises FileNotFoundError or ValueError naming the file."""
        tensors, facts = read_state(Path(folder))
        model = cls(MFConfig(**facts["config"]))
        fitted = Fitted.from_tensors(tensors, facts)
        shape = len(fitted.user_factors), len(fitted.item_factors)
        parts = (tensors[f"user_items_{part}"] for part in ("data", "indices", "indptr"))
        model._take(fitted, sparse.csr_matrix(tuple(parts), shape=shape))
        return model

    def _fold_in(self, matrix: sparse.csr_matrix) -> tuple[Factors, Float32]:
        if matrix.shape[1] != len(self.item_factors):
            raise ValueError(f"user_items: {matrix.shape[1]} columns must be {len(self.item_factors)} items")
        if self.config.objective != "explicit":
            rows = rows_of(matrix, self.config)
            weight = self.config.missing_weight
            factors = fold_in(
                rows, self.item_factors, weight, gramian=self.gramian(), backend=self.config.backend
            )
            return factors, np.zeros(len(factors), np.float32)
        matrix = matrix.copy()
        matrix.data -= np.float32(self.mean)
        one = np.ones((len(self.item_factors), 1), self.item_factors.dtype)
        rows = rows_of(matrix, self.config, self.item_bias)
        both = fold_in(rows, np.hstack([self.item_factors, one]), 0.0, backend=self.config.backend)
        return np.ascontiguousarray(both[:, :-1]), both[:, -1].astype(np.float32)

    def _take(self, fitted: Fitted, matrix: sparse.csr_matrix) -> None:
        self.user_factors, self.item_factors = fitted.user_factors, fitted.item_factors
        self.user_bias, self.item_bias = fitted.user_bias, fitted.item_bias
        self.mean, self.history, self.user_items = fitted.mean, fitted.history, matrix
        self._gramian = None

    def _rows(self, users: ArrayLike) -> NDArray[np.int64]:
        rows = np.atleast_1d(np.asarray(users, dtype=np.int64))
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.user_factors)):
            raise ValueError(f"users: every row must lie in 0..{len(self.user_factors) - 1}")
        return rows


def _silent(_: str) -> None:
    return None


__all__ = ["DivergenceError", "MFConfig", "MatrixFactorization"]
