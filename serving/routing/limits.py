"""Size limits of a request (the bounds in tensors.py), checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shopsight.serving.contract import Bounds, TensorSpec
from shopsight.serving.routing.rows import RequestError, Row

Array = np.ndarray[Any, Any]

MAX_REQUEST_BYTES = 16 * 2**20
MAX_REQUEST_ID_BYTES = 256


def check_bounds(row: Row, specs: Sequence[TensorSpec]) -> None:
    """Raise RequestError for the first tensor of a row that is outside the bounds of its specification."""
    for spec in specs:
        if spec.bounds is not None and spec.name in row:
            _check_values(spec.name, row.tensors[spec.name], spec.bounds)
            if spec.bounds.max_bytes is not None:
                _check_lengths(spec.name, row.texts(spec.name), spec.bounds.max_bytes)


def check_request(request_id: str, tensors: Mapping[str, Array]) -> None:
    """Raise RequestError for a request that is too large as a whole, or has no rows."""
    if (length := len(request_id.encode())) > MAX_REQUEST_ID_BYTES:
        raise RequestError(
            f"the request id has {length} bytes, at most {MAX_REQUEST_ID_BYTES} are taken; send a shorter one"
        )
    size = sum(_num_bytes(values) for values in tensors.values())
    if size > MAX_REQUEST_BYTES:
        raise RequestError(
            f"the request has {size} bytes of tensors, at most {MAX_REQUEST_BYTES} are taken; "
            "send its rows in several requests"
        )
    counts = {name: len(values) for name, values in tensors.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise RequestError(f"every tensor must have the same number of rows, but {told}")
    if not any(counts.values()):
        raise RequestError("the request has no rows; send at least one")


def _check_values(name: str, values: Array, bounds: Bounds) -> None:
    if bounds.max_values is not None and len(values) > bounds.max_values:
        which = "the latest" if name.startswith("HISTORY_") else "fewer"
        raise RequestError(
            f"{name} has {len(values)} values, at most {bounds.max_values} are taken; send {which}"
        )
    if bounds.minimum is None or bounds.maximum is None or not len(values):
        return
    outside = np.flatnonzero((values < bounds.minimum) | (values > bounds.maximum))
    if len(outside):
        at = int(outside[0])
        where = name if len(values) == 1 else f"{name}[{at}]"
        unit = f", {bounds.unit}" if bounds.unit else ""
        raise RequestError(
            f"{where} is {values[at]}; it must be from {bounds.minimum} to {bounds.maximum}{unit}"
        )


def _check_lengths(name: str, values: Sequence[bytes], max_bytes: int) -> None:
    for at, value in enumerate(values):
        if len(value) > max_bytes:
            where = name if len(values) == 1 else f"{name}[{at}]"
            raise RequestError(
                f"{where} has {len(value)} bytes, at most {max_bytes} are taken; send a shorter one"
            )


def _num_bytes(values: Array) -> int:
    if values.dtype != np.object_:
        return int(values.nbytes)
    return sum(len(value) for value in values.reshape(-1))
