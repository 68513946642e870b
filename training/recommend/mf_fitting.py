"""The epochs of a factorisation: start, alternate, validate, keep the best, write checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from kernels.als import alternate, half_step
from kernels.rows import Factors, Float32
from kernels.topk import topk
from training.recommend.mf_files import INDEX, Tensors, read_state, write_state
from training.recommend.objective import MFConfig, rows_of

Progress = Callable[[str], None]
TENSORS = ("user_factors", "item_factors", "user_bias", "item_bias")


@dataclass(frozen=True)
class Fitted:
    """Factors in the storage type, biases float32, the ratings' mean, and validation epoch by epoch."""

    user_factors: Factors
    item_factors: Factors
    user_bias: Float32
    item_bias: Float32
    mean: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def from_tensors(cls, tensors: Tensors, facts: dict[str, Any], prefix: str = "") -> Fitted:
        """What was written under these names, with the mean and history of `facts`."""
        users, items, user_bias, item_bias = (tensors[prefix + name] for name in TENSORS)
        return cls(users, items, user_bias, item_bias, facts["mean"], facts["history"])


def fit_factors(
    matrix: sparse.csr_matrix,
    config: MFConfig,
    validation: sparse.csr_matrix | None,
    checkpoint: Path | None,
    say: Progress,
) -> Fitted:
    """Run the epochs of `MatrixFactorization.fit` on a canonical matrix."""
    state, best, epoch = _begin(matrix, config, validation, checkpoint, say)
    step = (
        _explicit_epochs(matrix, config)
        if config.objective == "explicit"
        else _implicit_epochs(matrix, config)
    )
    stride = config.check_every if validation is not None or checkpoint is not None else config.num_epochs
    while epoch < config.num_epochs and not _is_done(state.history, config):
        count = min(stride, config.num_epochs - epoch)
        state = step(state, epoch, count, say)
        epoch += count
        if validation is not None:
            recall, ndcg = validate(state, matrix, validation, config)
            state.history.append({"epoch": epoch, "recall": recall, "ndcg": ndcg})
            say(
                f"epoch {epoch}: recall@{config.validation_k} {recall:.4f}, "
                f"ndcg@{config.validation_k} {ndcg:.4f}"
            )
            if _best_epoch(state.history, config) == epoch:
                best = state
        if checkpoint is not None:
            _write(checkpoint, state, best, epoch, _fingerprint(matrix, config, validation))
    if validation is None:
        return state
    say(f"kept epoch {_best_epoch(state.history, config)} of {epoch}")
    return replace(best, history=state.history)


def validate(
    state: Fitted, matrix: sparse.csr_matrix, held_out: sparse.csr_matrix, config: MFConfig
) -> tuple[float, float]:
    """Recall (hits / held-out items of the user) and NDCG at `validation_k`, over all unseen items.

    The mean over the users with held-out items, at most `validation_users` of them, drawn by the seed.
    """
    users = np.flatnonzero(np.diff(held_out.indptr))
    if len(users) == 0:
        raise ValueError("validation: holds no interaction; leave it out or hold some back")
    if len(users) > config.validation_users:
        users = np.sort(
            np.random.default_rng(config.seed).choice(users, config.validation_users, replace=False)
        )
    seen = matrix[users]
    k = min(config.validation_k, matrix.shape[1])
    one = np.ones((len(users), 1), state.user_factors.dtype)
    ids, _ = topk(
        np.hstack([state.user_factors[users], one]),
        np.hstack([state.item_factors, state.item_bias[:, None].astype(state.item_factors.dtype)]),
        k,
        exclude_indptr=seen.indptr.astype(np.int64),
        exclude_indices=seen.indices.astype(np.int32),
        backend=config.backend,
    )
    wanted = held_out[users]
    sizes = np.diff(wanted.indptr)
    keys = np.repeat(np.arange(len(users)), sizes) * matrix.shape[1] + wanted.indices
    hits = np.isin(np.arange(len(users))[:, None] * matrix.shape[1] + ids, keys) & (ids >= 0)
    gain = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gain)[np.minimum(sizes, k) - 1]
    return float((hits.sum(1) / sizes).mean()), float(((hits * gain).sum(1) / ideal).mean())


Epochs = Callable[[Fitted, int, int, Progress], Fitted]


def _implicit_epochs(matrix: sparse.csr_matrix, config: MFConfig) -> Epochs:
    users, items = rows_of(matrix, config), rows_of(matrix.T.tocsr(), config)

    def step(state: Fitted, first: int, count: int, say: Progress) -> Fitted:
        def after_epoch(epoch: int, _: Any) -> bool:
            say(f"epoch {epoch + 1} of {config.num_epochs}")
            return False

        x, y = alternate(
            users,
            items,
            state.user_factors,
            state.item_factors,
            config.missing_weight,
            solver=config.solver,
            num_cg_steps=config.num_cg_steps,
            num_epochs=count,
            first_epoch=first,
            after_epoch=after_epoch,
            backend=config.backend,
        )
        return replace(state, user_factors=x, item_factors=y)

    return step


def _explicit_epochs(matrix: sparse.csr_matrix, config: MFConfig) -> Epochs:
    """Each side is solved together with its bias: a factor more, whose partner on the other side is 1."""
    centred = matrix.copy()
    centred.data -= np.float32(matrix.data.mean())
    transposed = centred.T.tocsr()

    def solve(side: sparse.csr_matrix, factors: Factors, bias: Float32) -> tuple[Factors, Float32]:
        both = half_step(
            rows_of(side, config, bias),
            np.hstack([factors, np.ones((len(factors), 1), factors.dtype)]),
            0.0,
            solver=config.solver,
            num_cg_steps=config.num_cg_steps,
            backend=config.backend,
        )
        return np.ascontiguousarray(both[:, :-1]), both[:, -1].astype(np.float32)

    def step(state: Fitted, first: int, count: int, say: Progress) -> Fitted:
        for epoch in range(first, first + count):
            x, user_bias = solve(centred, state.item_factors, state.item_bias)
            y, item_bias = solve(transposed, x, user_bias)
            state = replace(state, user_factors=x, item_factors=y, user_bias=user_bias, item_bias=item_bias)
            say(f"epoch {epoch + 1} of {config.num_epochs}")
        return state

    return step


def _begin(
    matrix: sparse.csr_matrix,
    config: MFConfig,
    validation: sparse.csr_matrix | None,
    checkpoint: Path | None,
    say: Progress,
) -> tuple[Fitted, Fitted, int]:
    """State, best state and epochs done: from the checkpoint where one of this very fit exists."""
    if checkpoint is not None and (checkpoint / INDEX).is_file():
        tensors, facts = read_state(checkpoint)
        if facts["fingerprint"] == _fingerprint(matrix, config, validation):
            say(f"resuming after epoch {facts['epoch']} from {checkpoint}")
            state = Fitted.from_tensors(tensors, facts)
            return state, Fitted.from_tensors(tensors, facts, "best_"), facts["epoch"]
        say(f"{checkpoint} is of other data or settings: starting anew")
    random = np.random.default_rng(config.seed)
    deviation = config.initial_deviation / np.sqrt(config.num_factors)
    num_users, num_items = matrix.shape
    x, y = (
        (random.standard_normal((n, config.num_factors), dtype=np.float32) * deviation).astype(config.storage)
        for n in (num_users, num_items)
    )
    zeros = np.zeros(num_users, np.float32), np.zeros(num_items, np.float32)
    mean = float(matrix.data.mean()) if config.objective == "explicit" and matrix.nnz else 0.0
    state = Fitted(x, y, *zeros, mean)
    return state, state, 0


def _write(folder: Path, state: Fitted, best: Fitted, epoch: int, fingerprint: str) -> None:
    tensors = {}
    for prefix, part in (("", state), ("best_", best)):
        for name in TENSORS:
            tensors[prefix + name] = getattr(part, name)
    facts = {"epoch": epoch, "mean": state.mean, "history": state.history, "fingerprint": fingerprint}
    write_state(folder, tensors, facts)


def _fingerprint(matrix: sparse.csr_matrix, config: MFConfig, validation: sparse.csr_matrix | None) -> str:
    """What makes a checkpoint one of this fit: the data and every setting but the number of epochs."""
    settings = asdict(replace(config, num_epochs=1))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in (matrix, validation):
        if part is not None:
            for array in (np.array(part.shape), part.indptr, part.indices, part.data):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _best_epoch(history: list[dict[str, float]], config: MFConfig) -> int:
    return int(max(history, key=lambda row: row[config.validation_metric])["epoch"])


def _is_done(history: list[dict[str, float]], config: MFConfig) -> bool:
    """Whether `patience` validations in a row brought nothing better."""
    figures = [row[config.validation_metric] for row in history]
    return len(figures) > config.patience and max(figures[-config.patience :]) <= max(
        figures[: -config.patience]
    )
