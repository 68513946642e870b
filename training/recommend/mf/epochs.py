"""Epochs of a factorisation: at once on the device, or by blocks of rows if it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from shopsight.kernels.als import Alternation
from shopsight.kernels.errors import DivergenceError
from shopsight.kernels.rows import Float32
from shopsight.training.artifacts.factor_store import FactorStore, InFile, InMemory, gramian_of, slabs
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.half_steps import BlockedSide, Fixed, solve_at_once
from shopsight.training.recommend.mf.objective import rows_of

AfterEpoch = Callable[[int], None]


@dataclass(frozen=True)
class Fitted:
    """Factors in the storage type, biases float32, the mean rating, and the validation figures by epoch."""

    user_factors: FactorStore
    item_factors: FactorStore
    user_bias: Float32
    item_bias: Float32
    mean: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Epochs(Protocol):
    """A way to run epochs."""

    def run(self, state: Fitted, first: int, count: int, after: AfterEpoch) -> Fitted:
        """Return the state after `count` epochs, numbered from `first` + 1; may overwrite `state`.

        `after` is called with the number of each epoch that is done.
        """

    def settle(self, state: Fitted) -> Fitted:
        """Return the state with its users folded in again, as in serving; may overwrite `state`."""

    def copy(self, state: Fitted) -> Fitted:
        """Return a copy that `run` may overwrite while `state` stays unchanged."""


class InCore:
    """Solves all rows of a side at once, in memory."""

    def __init__(self, matrix: sparse.csr_matrix, config: MFConfig) -> None:
        self._matrix, self._config = matrix, config
        if config.objective == "explicit":
            self._transposed = matrix.T.tocsr()
        else:
            self._rows = rows_of(matrix, config), rows_of(matrix.T.tocsr(), config)
        self._alternation: Alternation | None = None
        self._last: Fitted | None = None  # what `_alternation` goes on from

    def run(self, state: Fitted, first: int, count: int, after: AfterEpoch) -> Fitted:
        if self._config.objective == "explicit":
            for epoch in range(first + 1, first + count + 1):
                with naming_epoch(epoch):
                    state = self._explicit_epoch(state)
                after(epoch)
            return state

        def after_epoch(epoch: int, _: Any) -> bool:
            after(epoch)
            return False

        alternation = self._alternation_from(state)
        x, y = alternation.run(count, first_epoch=first + 1, after_epoch=after_epoch)
        self._last = replace(state, user_factors=InMemory(x), item_factors=InMemory(y))
        return self._last

    def _alternation_from(self, state: Fitted) -> Alternation:
        """The object of the last run where the state is what it returned, else a new one."""
        last = self._last
        if self._alternation is None or last is None or last.user_factors is not state.user_factors:
            self._alternation = Alternation(
                *self._rows,
                state.user_factors.array(),
                state.item_factors.array(),
                self._config.missing_weight,
                solver=self._config.solver,
                num_cg_steps=self._config.num_cg_steps,
                backend=self._config.backend,
            )
        return self._alternation

    def settle(self, state: Fitted) -> Fitted:
        users, bias = solve_at_once(self._matrix, _fixed_items(state, self._config), self._config)
        return replace(state, user_factors=InMemory(users), user_bias=bias)

    def copy(self, state: Fitted) -> Fitted:
        return state

    def _explicit_epoch(self, state: Fitted) -> Fitted:
        fixed = Fixed(state.item_factors, state.item_bias, state.mean)
        start = state.user_factors.array(), state.user_bias
        users, user_bias = solve_at_once(self._matrix, fixed, self._config, start)
        fixed = Fixed(InMemory(users), user_bias, state.mean)
        start = state.item_factors.array(), state.item_bias
        items, item_bias = solve_at_once(self._transposed, fixed, self._config, start)
        return replace(
            state,
            user_factors=InMemory(users),
            item_factors=InMemory(items),
            user_bias=user_bias,
            item_bias=item_bias,
        )


class ByBlocks:
    """Solves each side by blocks of rows; factors are in files in `folder`, or in memory if that is None."""

    def __init__(
        self, matrix: sparse.csr_matrix, config: MFConfig, room_bytes: int, folder: Path | None
    ) -> None:
        self._config, self._folder = config, folder
        self._users = BlockedSide(matrix, config, room_bytes, "user")
        self._items = BlockedSide(matrix.T.tocsr(), config, room_bytes, "item")

    def __str__(self) -> str:
        where = "" if self._folder is None else f", factors in files in {self._folder}"
        return f"{self._users.num_blocks} blocks of users, {self._items.num_blocks} of items{where}"

    def run(self, state: Fitted, first: int, count: int, after: AfterEpoch) -> Fitted:
        for epoch in range(first + 1, first + count + 1):
            with naming_epoch(epoch):
                users, items = state.user_factors, state.item_factors
                bias = self._users.solve(_fixed_items(state, self._config), users, (users, state.user_bias))
                state = replace(state, user_bias=bias)
                bias = self._items.solve(_fixed_users(state, self._config), items, (items, state.item_bias))
                state = replace(state, item_bias=bias)
            after(epoch)
        return state

    def settle(self, state: Fitted) -> Fitted:
        bias = self._users.solve(_fixed_items(state, self._config), state.user_factors)
        return replace(state, user_bias=bias)

    def copy(self, state: Fitted) -> Fitted:
        users, items = (self._copied(store) for store in (state.user_factors, state.item_factors))
        return replace(state, user_factors=users, item_factors=items)

    def _copied(self, store: FactorStore) -> FactorStore:
        copy = new_store(store.shape, store.dtype, self._folder)
        for begin, values in slabs(store):
            copy.write(begin, values)
        return copy


def new_store(shape: tuple[int, ...], dtype: np.dtype[np.generic], folder: Path | None) -> FactorStore:
    """Return an empty store of factors, in `folder`, or in memory if that is None."""
    return InMemory(np.empty(shape, dtype)) if folder is None else InFile.scratch(shape, dtype, folder)


@contextmanager
def naming_epoch(epoch: int) -> Iterator[None]:
    """Turn ValueError and ArithmeticError of a half step into a DivergenceError that names the epoch."""
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        words = f"epoch {epoch}: {error}; raise the regularization or lower the weights"
        raise DivergenceError(words) from None


def _fixed_items(state: Fitted, config: MFConfig) -> Fixed:
    return _fixed(state.item_factors, state.item_bias, state.mean, config)


def _fixed_users(state: Fitted, config: MFConfig) -> Fixed:
    return _fixed(state.user_factors, state.user_bias, state.mean, config)


def _fixed(factors: FactorStore, bias: Float32, mean: float, config: MFConfig) -> Fixed:
    return Fixed(factors, bias, mean, gramian_of(factors) if config.missing_weight else None)
