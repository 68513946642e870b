"""The methods that predict the next item, each with the settings that are tried on the validation cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.recommend_methods import degree_weights
from shopsight.kernels.topk import topk
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.model import MatrixFactorization
from shopsight.training.recommend.neighbours import EASE, Histories, ItemKNN, Transitions
from shopsight.training.recommend.neighbours.model import ItemToItem
from shopsight.training.recommend.neighbours.selection import popularity_places

Lists = NDArray[np.int32]
Values = dict[str, Any]
NO_FADING = np.inf


class Fitted(Protocol):
    """A method after its fit."""

    def lists(self, asked: Histories, k: int, **values: Any) -> Lists:
        """Return the best k items that continue each history, int32 [histories, k]."""


@dataclass(frozen=True)
class Method:
    """A method and what its search tries.

    fit: makes and fits it with values of `start`'s names, and a `seed` if there are seeds. start: the values
    to begin with. knobs: values tried one knob after the other. asked: values tried in every combination with
    each fit, for they need none of their own. seeds: of the fits on the final cut; none where nothing is
    random.
    """

    name: str
    fit: Callable[..., Fitted]
    start: Values = field(default_factory=dict)
    knobs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    asked: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    def fitted(self, learned: Histories, values: Values, seed: int = 0) -> Fitted:
        """Return the method fitted to histories with these values."""
        return self.fit(learned, **values, **({"seed": seed} if self.seeds else {}))

    def questions(self) -> Iterator[Values]:
        """Yield each combination of the values that need no fit of their own."""
        for values in product(*self.asked.values()):
            yield dict(zip(self.asked, values, strict=True))


class Popular:
    """The most popular items that the customer does not have."""

    def __init__(self, learned: Histories) -> None:
        self._order = np.argsort(popularity_places(learned.popularity())).astype(np.int32)

    def lists(self, asked: Histories, k: int) -> Lists:
        """See Fitted."""
        found = np.full((len(asked), k), -1, np.int32)
        for row, (begin, end) in enumerate(zip(asked.indptr[:-1], asked.indptr[1:], strict=True)):
            head = self._order[: k + end - begin]
            best = head[~np.isin(head, asked.items[begin:end])][:k]
            found[row, : len(best)] = best
        return found


class ByItems:
    """An item-to-item model; the half-life of the history that is asked needs no fit."""

    def __init__(self, model: ItemToItem) -> None:
        self._model = model

    def lists(self, asked: Histories, k: int, half_life: float) -> Lists:
        """See Fitted."""
        self._model.half_life = half_life
        return self._model.recommend(asked, k)[0]


class ByFactors:
    """Implicit ALS on faded histories; `lists` folds the histories that are asked in."""

    def __init__(
        self, learned: Histories, seed: int, half_life_learned: float, degree_exponent: float, **config: Any
    ) -> None:
        self._degree_exponent = degree_exponent
        settings = MFConfig(regularization_exponent=0.0, seed=seed, **config)
        self._model = MatrixFactorization(settings).fit(self._weighted(learned, half_life_learned))
        self._popularity = np.maximum(learned.popularity(), 1).astype(np.float64)

    def lists(self, asked: Histories, k: int, half_life: float, popularity_exponent: float) -> Lists:
        """See Fitted. Scores are multiplied by (customers of the item)^popularity_exponent."""
        users = self._model.fold_in(self._weighted(asked, half_life))
        tilt = (self._popularity**popularity_exponent).astype(np.float32)
        seen = asked.weights()
        return topk(
            users,
            self._model.item_factors * tilt[:, None],
            k,
            exclude_indptr=seen.indptr.astype(np.int64),
            exclude_indices=seen.indices.astype(np.int32),
        )[0]

    def _weighted(self, histories: Histories, half_life: float) -> sparse.csr_matrix:
        """Return faded weights with a mean of one, times the degree weights."""
        matrix = histories.weights(half_life)
        if matrix.nnz:
            matrix.data /= matrix.data.mean()
        return degree_weights(matrix, self._degree_exponent)


def methods() -> list[Method]:
    """Return every method."""
    fading = (NO_FADING, 4.0, 2.0, 1.4, 1.0, 0.7, 0.5)
    als = {"unobserved_weight": 0.3, "regularization": 1.0, "num_factors": 128, "num_epochs": 8}
    als |= {"degree_exponent": 0.2, "half_life_learned": NO_FADING}
    als_knobs = {
        "unobserved_weight": (0.03, 0.1, 0.3, 1.0, 3.0),
        "regularization": (0.3, 1.0, 3.0, 10.0, 30.0),
        "degree_exponent": (0.0, 0.2, 0.4),
        "num_factors": (64, 128, 256),
    }
    tilts = (-0.1, 0.0, 0.1)
    return [
        Method("popularity", Popular),
        Method(
            "item-kNN",
            _by_items(ItemKNN),
            {"source_exponent": 0.3, "target_exponent": 0.3, "fit_half_life": NO_FADING},
            {
                "target_exponent": (0.0, 0.15, 0.3, 0.5),
                "source_exponent": (0.0, 0.15, 0.3, 0.5, 0.7),
                "fit_half_life": (NO_FADING, 50.0, 20.0, 10.0, 5.0),
            },
            {"half_life": fading},
        ),
        Method(
            "transitions",
            _by_items(Transitions),
            {"gap_half_life": 4.0, "backward": 0.3, "source_exponent": 0.5, "target_exponent": 0.0},
            {
                "gap_half_life": (0.5, 1.0, 2.0, 4.0, 8.0),
                "backward": (0.0, 0.15, 0.3, 0.6),
                "source_exponent": (0.3, 0.5, 0.7, 0.9),
                "target_exponent": (0.0, 0.1, 0.2, 0.3),
            },
            {"half_life": fading},
        ),
        Method(
            "EASE",
            _by_items(EASE),
            {"regularization": 300.0, "fit_half_life": NO_FADING},
            {
                "regularization": (30.0, 100.0, 300.0, 1000.0),
                "fit_half_life": (NO_FADING, 20.0, 5.0),
            },
            {"half_life": fading},
        ),
        Method(
            "ALS, faded",
            ByFactors,
            als,
            {"half_life_learned": (NO_FADING, 20.0, 8.0, 4.0, 2.0), **als_knobs},
            {"half_life": fading, "popularity_exponent": tilts},
            seeds=(0, 1, 2),
        ),
        Method(
            "ALS, not faded",
            ByFactors,
            als,
            als_knobs,
            {"half_life": (NO_FADING,), "popularity_exponent": tilts},
            seeds=(0, 1, 2),
        ),
    ]


def _by_items(model: Callable[..., ItemToItem]) -> Callable[..., ByItems]:
    """Return how such a model is fitted."""
    return lambda learned, **values: ByItems(model(**values).fit(learned))
