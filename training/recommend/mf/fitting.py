"""Fit a factorisation: start or resume, run epochs, validate, keep the best, write checkpoints."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from shopsight.kernels.backend import resolve
from shopsight.serving.progress import Progress, counted
from shopsight.training.artifacts.factor_store import FactorStore, bytes_of, rows_of_slab
from shopsight.training.artifacts.locks import exclusive
from shopsight.training.artifacts.tensor_file import dtype_of
from shopsight.training.recommend.mf.config import MFConfig
from shopsight.training.recommend.mf.epochs import ByBlocks, Epochs, Fitted, InCore, new_store
from shopsight.training.recommend.mf.files import INDEX, read_state, write_state
from shopsight.training.recommend.mf.memory import plan_memory, readable
from shopsight.training.recommend.mf.validation import validate

FACTORS, BIASES = ("user_factors", "item_factors"), ("user_bias", "item_bias")


def fit_factors(
    matrix: sparse.csr_matrix,
    config: MFConfig,
    validation: sparse.csr_matrix | None,
    checkpoint: Path | None,
    say: Progress,
) -> Fitted:
    """Implement `MatrixFactorization.fit` on canonical matrices: report the memory plan, then run the epochs.

    Raises Busy if another process fits in the folder `checkpoint`.
    """
    with nullcontext() if checkpoint is None else exclusive(checkpoint / ".fit.lock", "a fit"):
        return _fitted(matrix, config, validation, checkpoint, say)


def _fitted(
    matrix: sparse.csr_matrix,
    config: MFConfig,
    validation: sparse.csr_matrix | None,
    checkpoint: Path | None,
    say: Progress,
) -> Fitted:
    backend = resolve(config.backend)
    plan = plan_memory(matrix.shape, matrix.nnz, config, backend, validation is not None)
    say(f"{plan}, on {backend.description}")
    if not plan.fits:
        raise MemoryError(
            f"{plan}: not even blocks fit; they need a limit (memory_limit_gib) of "
            f"{readable(plan.least_limit_bytes)}; or take fewer factors or storage='float16'"
        )
    if plan.home == "device":
        return run_epochs(InCore(matrix, config), matrix, config, validation, checkpoint, None, say)
    scratch = None
    if plan.home == "disk":
        scratch = checkpoint or Path(tempfile.gettempdir())
        scratch.mkdir(parents=True, exist_ok=True)
    blocks = ByBlocks(matrix, config, plan.room_bytes, scratch)
    say(str(blocks))
    return run_epochs(blocks, matrix, config, validation, checkpoint, scratch, say)


def run_epochs(
    epochs: Epochs,
    matrix: sparse.csr_matrix,
    config: MFConfig,
    validation: sparse.csr_matrix | None,
    checkpoint: Path | None,
    scratch: Path | None,
    say: Progress,
) -> Fitted:
    """Return the fitted state, from the start or the checkpoint; `scratch` is the folder of factor files."""
    fingerprint = "" if checkpoint is None else _fingerprint(matrix, config, validation)
    resumed = None if checkpoint is None else _resume(checkpoint, fingerprint, say)
    state, best, epoch = resumed or _start(matrix, config, scratch)
    if resumed:
        state, best = epochs.copy(state), epochs.copy(best)
    stride = config.check_every if validation is not None or checkpoint is not None else config.num_epochs
    with counted(say, "epochs", config.num_epochs) as done:
        done(epoch)

        def after(number: int) -> None:
            say(f"epoch {number} of {config.num_epochs}")
            done(1)

        while epoch < config.num_epochs and not _is_done(state.history, config):
            count = min(stride, config.num_epochs - epoch)
            state = epochs.run(state, epoch, count, after)
            epoch += count
            if validation is not None:
                row = {"epoch": float(epoch), **validate(state, matrix, validation, config)}
                state = replace(state, history=[*state.history, row])
                figures = (f"{name}@{config.validation_k} {row[name]:.4f}" for name in ("recall", "ndcg"))
                say(f"epoch {epoch}: {', '.join(figures)}")
                best = epochs.copy(state) if _best_epoch(state.history, config) == epoch else best
            if checkpoint is not None:
                kept = None if validation is None else best
                _write(checkpoint, state, kept, epoch, fingerprint)
    if validation is None:
        return epochs.settle(state)
    say(f"kept epoch {_best_epoch(state.history, config)} of {epoch}")
    return epochs.settle(replace(best, history=state.history))


def fitted_from(tensors: dict[str, Any], facts: dict[str, Any], prefix: str = "") -> Fitted:
    """Return the state that was written under these names, with the mean and the history of `facts`."""
    users, items = (tensors[prefix + name] for name in FACTORS)
    user_bias, item_bias = (np.array(tensors[prefix + name].array()) for name in BIASES)
    return Fitted(users, items, user_bias, item_bias, facts["mean"], facts["history"])


def _start(matrix: sparse.csr_matrix, config: MFConfig, scratch: Path | None) -> tuple[Fitted, Fitted, int]:
    random = np.random.default_rng(config.seed)
    users, items = (_draw(n, config, scratch, random) for n in matrix.shape)
    user_bias, item_bias = (np.zeros(n, np.float32) for n in matrix.shape)
    mean = 0.0
    if config.objective == "explicit" and matrix.nnz:
        mean = float(matrix.data.mean(dtype=np.float64))
    state = Fitted(users, items, user_bias, item_bias, mean)
    return state, state, 0


def _draw(num_rows: int, config: MFConfig, scratch: Path | None, random: np.random.Generator) -> FactorStore:
    """Return random factors; they are the same in files and in memory, for slabs of any size."""
    store = new_store((num_rows, config.num_factors), dtype_of(config.storage), scratch)
    deviation = np.float32(config.initial_deviation / np.sqrt(config.num_factors))
    step = rows_of_slab(store)
    for begin in range(0, num_rows, step):
        size = min(step, num_rows - begin), config.num_factors
        values = random.standard_normal(size, dtype=np.float32)
        values *= deviation
        store.write(begin, values.astype(store.dtype, copy=False))
    return store


def _resume(checkpoint: Path, fingerprint: str, say: Progress) -> tuple[Fitted, Fitted, int] | None:
    """Return state, best state and epochs done, if the folder has a checkpoint of the same fit."""
    if not (checkpoint / INDEX).is_file():
        return None
    tensors, facts = read_state(checkpoint)
    if facts.get("fingerprint") != fingerprint:
        say(f"{checkpoint} is of other data or settings: starting again")
        return None
    say(f"resuming after epoch {facts['epoch']} from {checkpoint}")
    state = fitted_from(tensors, facts)
    best = fitted_from(tensors, facts, "best_") if "best_user_factors" in tensors else state
    return state, best, facts["epoch"]


def _write(folder: Path, state: Fitted, best: Fitted | None, epoch: int, fingerprint: str) -> None:
    tensors = {name: getattr(state, name) for name in FACTORS + BIASES}
    if best is not None:
        tensors |= {f"best_{name}": getattr(best, name) for name in FACTORS + BIASES}
    facts = {"epoch": epoch, "mean": state.mean, "history": state.history, "fingerprint": fingerprint}
    write_state(folder, tensors, facts)


def _fingerprint(matrix: sparse.csr_matrix, config: MFConfig, validation: sparse.csr_matrix | None) -> str:
    """Return a hash that identifies a fit: of the data, and of every setting that changes the result.

    The number of epochs and the memory limit are left out, so that both may be changed before a fit resumes.
    """
    settings = asdict(replace(config, num_epochs=1, memory_limit_gib=0.0))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in (matrix, validation):
        if part is not None:
            for array in (np.array(part.shape), part.indptr, part.indices, part.data):
                digest.update(bytes_of(array))
    return digest.hexdigest()


def _best_epoch(history: list[dict[str, float]], config: MFConfig) -> int:
    return int(max(history, key=lambda row: row[config.validation_metric])["epoch"])


def _is_done(history: list[dict[str, float]], config: MFConfig) -> bool:
    """Return whether the last `patience` validations brought no better figure."""
    figures = [row[config.validation_metric] for row in history]
    return len(figures) > config.patience and max(figures[-config.patience :]) <= max(
        figures[: -config.patience]
    )
