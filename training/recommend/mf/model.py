"""The MatrixFactorization class: fit, recommend, explain, save and load."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Factors, Float32, Int32
from shopsight.serving.progress import Progress, silent
from shopsight.training.artifacts.factor_store import InMemory, gramian_of
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import Fitted
from shopsight.training.recommend.mf.files import read_state, write_state
from shopsight.training.recommend.mf.fitting import BIASES, FACTORS, fit_factors, fitted_from
from shopsight.training.recommend.mf.fixed_side import FixedSide
from shopsight.training.recommend.mf.half_steps import Fixed, extended
from shopsight.training.recommend.mf.inputs import checked_input, checked_matrix, row_numbers
from shopsight.training.recommend.mf.retrieval import best_items, directions, item_blocks
from shopsight.training.recommend.mf.rows import new_row_numbers, with_interactions, with_rows
from shopsight.training.recommend.mf.staleness import Staleness, item_error

_MATRIX = {"data": np.float32, "indices": np.int32, "indptr": np.int64}


class MatrixFactorization:
    """A matrix factorisation by ALS, of implicit feedback or explicit ratings.

    After `fit` it has user_factors [users, f] and item_factors [items, f] in the storage type, user_bias
    [users] and item_bias [items] float32 (zeros unless ratings are explicit), mean (the mean rating), history
    (validation figures by epoch) and user_items, the canonical matrix that `recommend` and `explain` use.
    Factors that were fitted in files or loaded are memory-mapped.
    """

    user_factors: Factors
    item_factors: Factors
    user_bias: Float32
    item_bias: Float32
    mean: float
    history: list[dict[str, float]]
    user_items: sparse.csr_matrix
    _fixed_items: FixedSide
    _num_new: int
    _error: float | None

    def __init__(self, config: MFConfig | None = None) -> None:
        self.config = config or MFConfig()

    def __getattr__(self, name: str) -> object:
        raise AttributeError(f"{name}: there is none before fit or load")

    def fit(
        self,
        user_items: sparse.csr_matrix,
        *,
        validation: sparse.csr_matrix | None = None,
        checkpoint: Path | None = None,
        progress: Progress = silent,
    ) -> MatrixFactorization:
        """Fit to `user_items` (scipy CSR [users, items] of weights or ratings); returns self.

        With `validation` (CSR of held-out items, same shape) training stops when its figure no longer
        improves, and the factors of the best epoch are kept. With `checkpoint`, a folder, the state is
        written every `check_every` epochs, and an interrupted fit of the same data and settings resumes there
        with bit-identical results. The first progress line is the memory plan: a fit that exceeds the
        device's memory, or `memory_limit_gib`, runs by blocks of rows, with the factors in host memory or, if
        that is too small as well, in unlinked files in `checkpoint` (else in TMPDIR).

        Raises TypeError or ValueError naming what is wrong with the input; MemoryError naming the least limit
        if blocks do not fit either; OSError if the disk is full; DivergenceError naming the epoch;
        BackendUnavailable. Sources: see MFConfig and kernels/als.py.
        """
        matrix, held_out = checked_input(user_items, validation)
        self._take(fit_factors(matrix, self.config, held_out, checkpoint, progress), matrix)
        return self

    def recommend(
        self,
        users: ArrayLike,
        k: int = 10,
        filter_viewed: bool = True,
        exclude_items: ArrayLike | None = None,
    ) -> tuple[Int32, Float32]:
        """Return the best k items of each user, (indices int32 [n, k], scores float32 [n, k]), best first.

        `users` are row numbers of the fitted matrix. Seen items are left out unless `filter_viewed` is
        False. A user without interactions gets the most popular items with score 0, unless ratings are
        explicit. Places without an item have index -1 and score -inf.
        """
        rows = row_numbers(users, len(self.user_factors), "users")
        num_items = len(self.item_factors)
        banned = None
        if exclude_items is not None:
            banned = row_numbers(exclude_items, num_items, "exclude_items").astype(np.int32)
        ids, scores = best_items(
            extended(self.user_factors[rows], self.config),
            item_blocks(InMemory(self.item_factors), self.config, self.item_bias),
            num_items,
            k,
            self.config.backend,
            seen=self.user_items[rows] if filter_viewed else None,
            exclude_items=banned,
        )
        if self.config.objective != "explicit":
            self._fill_with_popular(ids, scores, rows, banned, filter_viewed)
        return ids, scores + np.float32(self.mean) + self.user_bias[rows, None]

    def retrieval_factors(self) -> tuple[Factors, Factors]:
        """Return (user, item) factors whose inner product ranks items; explicit ratings add the item bias."""
        items = extended(self.item_factors, self.config, self.item_bias)
        return extended(self.user_factors, self.config), items

    def similar_items(self, items: ArrayLike, k: int = 10) -> tuple[Int32, Float32]:
        """Return the k most similar other items by cosine, (indices int32 [n, k], cosines float32 [n, k]).

        An item whose factors are zero is similar to no item. Places without an item have index -1 and cosine
        -inf.
        """
        num_items = len(self.item_factors)
        wanted = row_numbers(items, num_items, "items")
        pattern = (np.ones(len(wanted), np.float32), wanted, np.arange(len(wanted) + 1))
        without_direction = np.flatnonzero(~self.item_factors.any(axis=1)).astype(np.int32)
        ids, cosines = best_items(
            directions(self.item_factors[wanted]),
            item_blocks(InMemory(self.item_factors), self.config, transform=directions),
            num_items,
            k,
            self.config.backend,
            seen=sparse.csr_matrix(pattern, shape=(len(wanted), num_items)),
            exclude_items=without_direction if len(without_direction) else None,
        )
        lost = np.isin(wanted, without_direction)
        ids[lost], cosines[lost] = -1, -np.inf
        return ids, cosines

    def explain(self, user: int, item: int, num_reasons: int = 10) -> tuple[float, list[tuple[int, float]]]:
        """Return a score and the parts (item, part) of seen items, largest first (Hu et al., 2008).

        The parts of all seen items sum to the score; with explicit ratings, to the score without the mean
        rating and the item's bias.
        """
        row = int(row_numbers(user, len(self.user_factors), "user")[0])
        scored = int(row_numbers(item, len(self.item_factors), "item")[0])
        seen, parts = self._fixed_items.explain(self.user_items[row], scored)
        order = np.argsort(-parts, kind="stable")[:num_reasons]
        return float(parts.sum()), [(int(seen[i]), float(parts[i])) for i in order]

    def fold_in(self, user_items: sparse.csr_matrix) -> Factors:
        """Return factors [rows, f] of users not in the training, from interactions (CSR [rows, items]).

        The first call copies the item factors to the device, where they stay. With explicit ratings a user
        has a bias too: `fold_in_with_bias` returns both, and `predict_new` the ratings.
        """
        return self.fold_in_with_bias(user_items)[0]

    def fold_in_with_bias(self, user_items: sparse.csr_matrix) -> tuple[Factors, Float32]:
        """Return factors [rows, f] and bias float32 [rows] of new users; 0 unless ratings are explicit."""
        return self._fixed_items.fold_in(checked_matrix(user_items))

    def predict(self, users: ArrayLike) -> Float32:
        """Return the scores of all items for fitted users, float32 [n, items]: mean + both biases + x·y."""
        rows = row_numbers(users, len(self.user_factors), "users")
        return self._scores(self.user_factors[rows], self.user_bias[rows])

    def predict_new(self, user_items: sparse.csr_matrix) -> Float32:
        """Return the scores of all items for users not in the training, float32 [rows, items]."""
        return self._scores(*self.fold_in_with_bias(user_items))

    def partial_fit(self, user_items: sparse.csr_matrix, users: ArrayLike) -> MatrixFactorization:
        """Refit these users to their new rows, by an exact half step against the current items; returns self.

        `user_items` (CSR [n, items]) has one row for each of `users`; numbers beyond the last user add users,
        and must follow it without a gap. Items change only in `fit` and `partial_fit_items`; `staleness`
        tells when a new fit is due.
        """
        fresh = checked_matrix(user_items)
        rows, num_users = new_row_numbers(users, len(self.user_factors), "users")
        if fresh.shape != (len(rows), len(self.item_factors)):
            raise ValueError(
                f"user_items: shape {fresh.shape} must be {(len(rows), len(self.item_factors))}; "
                "partial_fit_items adds items"
            )
        self._error_of_fit()  # while it can still be measured
        factors, bias = self._fixed_items.fold_in(fresh)
        self.user_factors = with_rows(self.user_factors, rows, factors, num_users)
        self.user_bias = with_rows(self.user_bias, rows, bias, num_users)
        self.user_items, num_new = with_interactions(self.user_items, rows, fresh, num_users)
        self._num_new += num_new
        return self

    def partial_fit_items(self, item_users: sparse.csr_matrix, items: ArrayLike) -> MatrixFactorization:
        """Refit these items to their new rows, by an exact half step against the current users; returns self.

        `item_users` (CSR [n, users]) has one row for each of `items`; numbers beyond the last item add items,
        and must follow it without a gap. Afterwards, refit the users of the new items by `partial_fit`, with
        all their interactions.
        """
        fresh = checked_matrix(item_users, "item_users")
        rows, num_items = new_row_numbers(items, len(self.item_factors), "items")
        if fresh.shape != (len(rows), len(self.user_factors)):
            raise ValueError(
                f"item_users: shape {fresh.shape} must be {(len(rows), len(self.user_factors))}; "
                "partial_fit adds users"
            )
        self._error_of_fit()  # while it can still be measured
        users = FixedSide(self.user_factors, self.user_bias, self.mean, self.config)
        factors, bias = users.fold_in(fresh)
        self.item_factors = with_rows(self.item_factors, rows, factors, num_items)
        self.item_bias = with_rows(self.item_bias, rows, bias, num_items)
        item_users, num_new = with_interactions(self.user_items.T.tocsr(), rows, fresh, num_items)
        self.user_items = item_users.T.tocsr()
        self._num_new += num_new
        self._fixed_items = FixedSide(self.item_factors, self.item_bias, self.mean, self.config)
        return self

    def staleness(self) -> Staleness:
        """Return how stale the item factors are, which `partial_fit` keeps fixed, since the fit.

        The text of the result says whether to fit again. Costs a half step of at most 256 items.
        """
        at_fit = self._error_of_fit()
        error = max(0.0, self._item_error() - at_fit) if self._num_new else 0.0
        return Staleness(self._num_new / max(1, self.user_items.nnz), error)

    def save(self, folder: Path) -> None:
        """Write factors, biases and the fitted matrix (safetensors) and the settings (JSON) into `folder`."""
        tensors = {name: getattr(self, name) for name in FACTORS + BIASES}
        for part, dtype in _MATRIX.items():
            tensors[f"user_items_{part}"] = getattr(self.user_items, part).astype(dtype, copy=False)
        facts = {
            "config": asdict(self.config),
            "mean": self.mean,
            "history": self.history,
            "num_new": self._num_new,
            "error_of_fit": self._error_of_fit(),
        }
        write_state(Path(folder), tensors, facts)

    @classmethod
    def load(cls, folder: Path) -> MatrixFactorization:
        """Read what `save` wrote; raises FileNotFoundError or ValueError naming the file."""
        tensors, facts = read_state(Path(folder))
        try:
            model = cls(MFConfig(**facts["config"]))
            fitted = fitted_from(tensors, facts)
            parts = tuple(tensors[f"user_items_{part}"].array() for part in _MATRIX)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{folder}: holds no saved factorisation of this release ({error})") from None
        shape = fitted.user_factors.shape[0], fitted.item_factors.shape[0]
        model._take(fitted, sparse.csr_matrix(parts, shape=shape))
        model._num_new, model._error = facts.get("num_new", 0), facts.get("error_of_fit")
        return model

    def _take(self, fitted: Fitted, matrix: sparse.csr_matrix) -> None:
        self.user_factors, self.item_factors = fitted.user_factors.array(), fitted.item_factors.array()
        self.user_bias, self.item_bias = fitted.user_bias, fitted.item_bias
        self.mean, self.history, self.user_items = fitted.mean, fitted.history, matrix
        self._fixed_items = FixedSide(self.item_factors, self.item_bias, self.mean, self.config)
        self._num_new, self._error = 0, None

    def _fill_with_popular(
        self,
        ids: Int32,
        scores: Float32,
        rows: NDArray[np.int64],
        banned: Int32 | None,
        filter_viewed: bool,
    ) -> None:
        """Replace the lists of users whose factors are all 0 by the most popular items."""
        places = np.flatnonzero(~self.user_factors[rows].any(axis=1))
        if not len(places):
            return
        counts = np.bincount(self.user_items.indices, minlength=len(self.item_factors))
        order = np.argsort(-counts, kind="stable").astype(np.int32)
        if banned is not None:
            order = order[~np.isin(order, banned)]
        for place in places:
            seen = self.user_items[rows[place]].indices if filter_viewed else ()
            shown = order[~np.isin(order, seen)][: ids.shape[1]]
            ids[place], scores[place] = -1, -np.inf
            ids[place, : len(shown)], scores[place, : len(shown)] = shown, 0

    def _scores(self, users: Factors, bias: Float32) -> Float32:
        products = users.astype(np.float32, copy=False) @ self.item_factors.astype(np.float32, copy=False).T
        scores: Float32 = products + np.float32(self.mean) + bias[:, None] + self.item_bias
        return scores

    def _error_of_fit(self) -> float:
        if self._error is None:
            self._error = self._item_error()
        return self._error

    def _item_error(self) -> float:
        users = InMemory(self.user_factors)
        gramian = gramian_of(users) if self.config.missing_weight else None
        fixed = Fixed(users, self.user_bias, self.mean, gramian)
        return item_error(self.user_items, fixed, self.item_factors, self.item_bias, self.config)


__all__ = ["DivergenceError", "MFConfig", "MatrixFactorization"]
