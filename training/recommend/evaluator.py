"""Rank items for the customers of a held-out window, by factors or popularity, and measure the lists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shopsight.kernels.topk import topk
from shopsight.training.evaluation.bootstrap import interval, ratio_interval
from shopsight.training.evaluation.list_quality import (
    calibration,
    coverage,
    diversity,
    gini,
    novelty,
    one_hot,
    popularity_bias,
)
from shopsight.training.evaluation.ranking import ranking_figures, recall_at_k
from shopsight.training.evaluation.splits import apart
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.model import HistoryModel
from shopsight.training.recommend.shop import Shop

Int64 = NDArray[np.int64]
Lists = NDArray[np.int32]


@dataclass(frozen=True)
class Evaluator:
    """The customers of one window, their target items, and the items that may be recommended to them.

    users: rows of customers with both a past before the window and a target in it. relevant: CSR [users,
    items]. bought: CSR [users, items] of the past. blocked: items that cannot be sold when the window begins.
    """

    users: Int64
    relevant: csr_matrix
    bought: csr_matrix
    blocked: NDArray[np.int32]
    past: csr_matrix
    num_users_of_item: Int64
    num_past: int
    category: Int64
    k: int
    num_cold: int

    @staticmethod
    def of(shop: Shop, past: csr_matrix, begin: datetime, end: datetime) -> Evaluator:
        """Return the evaluator of a window; `past` [customers, items] is what the model is fitted to."""
        relevant = shop.targets(begin, end)
        active: NDArray[np.bool_] = np.diff(relevant.indptr) > 0
        warm = np.flatnonzero(active & (np.diff(past.indptr) > 0))
        if len(warm) > shop.config.max_judged:
            rng = np.random.default_rng(shop.config.seed)
            warm = np.sort(rng.choice(warm, shop.config.max_judged, replace=False))
        blocked = np.flatnonzero(~shop.available(begin)).astype(np.int32)
        return Evaluator(
            users=warm,
            relevant=relevant[warm],
            bought=shop.bought(begin)[warm],
            blocked=blocked,
            past=past[warm],
            num_users_of_item=np.bincount(past.indices, minlength=past.shape[1]),
            num_past=int((np.diff(past.indptr) > 0).sum()),
            category=shop.category,
            k=min(shop.config.k, relevant.shape[1]),
            num_cold=int(active.sum()) - int((active & (np.diff(past.indptr) > 0)).sum()),
        )

    def by_factors(self, model: MatrixFactorization, bought_again: bool) -> Lists:
        """Return each user's best items, int32 [users, k]."""
        mask: dict[str, Any] = {} if bought_again else self._mask()
        x, y = model.retrieval_factors()
        found, _ = topk(x[self.users], y, self.k, exclude_items=self.blocked, **mask)
        return found

    def by_popularity(
        self, popularity: NDArray[np.float32], bought_again: bool, group: Int64 | None = None
    ) -> Lists:
        """Return the most popular items, int32 [users, k], by popularity [items].

        With `group`, int64 [users], popularity is [groups, items] and each user gets that of their group.
        """
        mask: dict[str, Any] = {} if bought_again else self._mask()
        tables = np.atleast_2d(popularity)
        member = np.zeros(len(self.users), dtype=np.int64) if group is None else group
        chosen = np.ascontiguousarray(np.eye(len(tables), dtype=np.float32)[member])
        weight = np.ascontiguousarray(tables.T, dtype=np.float32)
        found, _ = topk(chosen, weight, self.k, exclude_items=self.blocked, **mask)
        return found

    def by_histories(self, model: HistoryModel, histories: Histories, bought_again: bool) -> Lists:
        """Return each user's best items by a fitted model of histories, int32 [users, k].

        histories: of all customers, of which those of `users` are asked; items that they met but did not buy
        may be recommended.
        """
        return model.recommend(
            histories.chosen(self.users),
            self.k,
            exclude_history=False,
            exclude=None if bought_again else self.bought,
            exclude_items=self.blocked,
        )[0]

    def figures(self, lists: Lists, seed: int, num_bootstraps: int) -> dict[str, Any]:
        """Return the figures of lists (docs/evaluation.md) by name, with 95 % intervals over customers."""
        per_user = {
            f"{name}_at_{self.k}": values for name, values in ranking_figures(lists, self.relevant).items()
        } | {
            "novelty_bits": novelty(lists, self.num_users_of_item, self.num_past),
            "category_diversity": diversity(lists, one_hot(self.category)),
            "popularity_bias": popularity_bias(lists, self.past, self.num_users_of_item),
            "category_miscalibration": calibration(lists, self.past, self.category),
        }
        sellable = self.relevant.shape[1] - len(self.blocked)
        draws = {"seed": seed, "num_resamples": num_bootstraps}
        return {
            **{name: interval(values, **draws) for name, values in per_user.items()},
            "coverage": coverage(lists, sellable),
            "gini": gini(lists, self.relevant.shape[1]),
        }

    def apart(self, lists: Lists, seed: int, num_bootstraps: int) -> dict[str, Any]:
        """Return the recall by items that the model was fitted to and by items that are new to it."""
        found = apart(recall_at_k, lists, self.relevant, self.num_users_of_item > 0)
        draws = {"seed": seed, "num_resamples": num_bootstraps}
        return {f"recall_at_{self.k}_{name}": interval(values, **draws) for name, values in found.items()}

    def ratio(self, lists: Lists, others: Lists, seed: int, num_bootstraps: int) -> dict[str, Any]:
        """Return the ratio of two lists' recall with its interval, resampled by the same customers."""
        return ratio_interval(
            recall_at_k(lists, self.relevant),
            recall_at_k(others, self.relevant),
            seed=seed,
            num_resamples=num_bootstraps,
        )

    def recall(self, lists: Lists) -> float | None:
        """Return the mean recall; None without customers."""
        return float(recall_at_k(lists, self.relevant).mean()) if len(self.users) else None

    def _mask(self) -> dict[str, Any]:
        return {
            "exclude_indptr": self.bought.indptr.astype(np.int64),
            "exclude_indices": self.bought.indices.astype(np.int32),
        }
