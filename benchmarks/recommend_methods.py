"""What is judged on the public sets: the factorisation with its settings, and the floors beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.recommend_sets import Cut
from shopsight.kernels.topk import topk
from shopsight.training.evaluation.baselines import EASE, Popularity
from shopsight.training.evaluation.ranking import ranking_figures
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.mf.objective import canonical

Lists = NDArray[np.int32]
_USERS = 1024


@dataclass(frozen=True)
class Settings:
    """What is chosen on the validation cut.

    degree_exponent: of `degree_weights`, for the fit and for the users' own rows.
    popularity_exponent: scores are multiplied by (users of the item)^this before they rank.
    half_life: after how many later interactions of its user an entry weighs half in the fit.
    half_life_asked: the same in the row that a user's factors come from when lists are made.
    """

    config: MFConfig
    degree_exponent: float = 0.0
    popularity_exponent: float = 0.0
    half_life: float = np.inf
    half_life_asked: float = np.inf


class Factorised:
    """A fitted factorisation and the rows that it is asked with."""

    def __init__(self, settings: Settings, cut: Cut) -> None:
        self._seen = cut.recency
        model = MatrixFactorization(settings.config)
        model.fit(_weighted(cut.recency, settings.half_life, settings.degree_exponent))
        asked = _weighted(cut.recency, settings.half_life_asked, settings.degree_exponent)
        self._users, self._items = model.fold_in(asked), model.item_factors
        self._popularity = np.maximum(np.bincount(cut.recency.indices, minlength=len(self._items)), 1)

    def lists(self, users: NDArray[np.int64], k: int, masked: bool, popularity_exponent: float) -> Lists:
        """Return the best k items of each user, int32 [len(users), k]."""
        tilted = self._items * (self._popularity**popularity_exponent).astype(np.float32)[:, None]
        seen = self._seen[users]
        mask = {
            "exclude_indptr": seen.indptr.astype(np.int64),
            "exclude_indices": seen.indices.astype(np.int32),
        }
        return topk(self._users[users], tilted, k, **(mask if masked else {}))[0]


@dataclass(frozen=True)
class Floor:
    """A method without a seed; `settings` says with what it was fitted.

    half_life_asked: as in `Settings`, for the EASE that may know of the order too.
    """

    name: str
    make: Callable[[], EASE | Popularity]
    settings: dict[str, float] = field(default_factory=dict)
    half_life_asked: float = np.inf

    def lists(self, cut: Cut, users: NDArray[np.int64], k: int, masked: tuple[bool, ...]) -> list[Lists]:
        """Fit, and return the best k items of each user once for each entry of `masked`."""
        seen = _weighted(cut.recency, np.inf, 0.0)
        model = self.make().fit(seen)
        found: list[list[Lists]] = [[] for _ in masked]
        for begin in range(0, len(users), _USERS):
            chosen = users[begin : begin + _USERS]
            if isinstance(model, EASE) and self.half_life_asked < np.inf:
                scores = model.scores_of(_weighted(cut.recency, self.half_life_asked, 0.0)[chosen])
            else:
                scores = model.scores(chosen)
            for hidden, parts in sorted(zip(masked, found, strict=True), key=lambda pair: pair[0]):
                if hidden:
                    scores[seen[chosen].nonzero()] = -np.inf
                parts.append(_best(scores, k))
        return [np.vstack(parts) for parts in found]


def figures(lists: Lists, held_out: sparse.csr_matrix) -> tuple[float, float]:
    """Return recall and NDCG, means over users; every row of `held_out` has an item.

    Recall divides by all of the user's held-out items, as the published figures do; with one held-out item it
    is the hit rate.
    """
    found = ranking_figures(lists, held_out, capped=False)
    return float(found["recall"].mean()), float(found["ndcg"].mean())


def asked_users(held_out: sparse.csr_matrix) -> NDArray[np.int64]:
    """Return the users who have held-out items."""
    return np.flatnonzero(np.diff(held_out.indptr))


def degree_weights(user_items: sparse.csr_matrix, exponent: float) -> sparse.csr_matrix:
    """`user_items` with every value multiplied by (d_u d_i)^-exponent, where their mean stays as it was.

    d_u and d_i count the entries of the user's row and of the item's column. It keeps those who did much, and
    what everybody has, from deciding on the factors, as the symmetric normalisation of graph methods does
    (He et al. 2020, "LightGCN"). Returns CSR float32, sorted; raises what `canonical` raises, and ValueError
    for an exponent that is not finite.
    """
    if not np.isfinite(exponent):
        raise ValueError(f"exponent={exponent}: must be finite")
    matrix = canonical(user_items)
    per_user: NDArray[np.int64] = np.diff(matrix.indptr)
    per_item = np.bincount(matrix.indices, minlength=matrix.shape[1])
    degrees = np.repeat(per_user, per_user) * per_item[matrix.indices].astype(np.float64)
    weighted = matrix.data * degrees**-exponent
    total = np.abs(weighted).sum()
    scale = np.abs(matrix.data).sum(dtype=np.float64) / total if total else 1.0
    matrix.data = (weighted * scale).astype(np.float32)
    return matrix


def _weighted(recency: sparse.csr_matrix, half_life: float, degree_exponent: float) -> sparse.csr_matrix:
    """Each entry at 2^-((recency - 1) / half_life), scaled to a mean of one, times the degree weights."""
    matrix = recency.copy()
    matrix.data = np.exp2(-(matrix.data - 1) / half_life).astype(np.float32)
    matrix.data /= matrix.data.mean()
    return degree_weights(matrix, degree_exponent)


def _best(scores: NDArray[np.float32], k: int) -> Lists:
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1).astype(np.int32)
