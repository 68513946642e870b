"""One row of a request with typed access to its tensors, and the errors that a caller can fix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from shopsight.serving.faults import logged

Array = np.ndarray[Any, Any]
T = TypeVar("T")

# UNSUPPORTED: this server's configuration cannot answer the request; INTERNAL: a fault of the server.
ErrorCode = Literal["INVALID_ARG", "NOT_FOUND", "UNAVAILABLE", "UNSUPPORTED", "INTERNAL"]


class RequestError(ValueError):
    """A request that cannot be answered; the message names the tensor, the rule and the remedy.

    Messages never contain a caller's identifiers, because they are logged.
    """

    def __init__(self, message: str, code: ErrorCode = "INVALID_ARG") -> None:
        super().__init__(message)
        self.code: ErrorCode = code


def server_fault(error: Exception, where: str) -> RequestError:
    """Log an error that no request should cause, and return the error for the caller."""
    return RequestError(
        "the server failed on this request; its log has the cause under the reference "
        f"{logged(error, where)}",
        "INTERNAL",
    )


def each(work: Callable[..., T], *columns: Iterable[Any]) -> list[T | RequestError]:
    """Call `work` for each row, with one value of every column; a RequestError becomes the row's result.

    A row that already has an error among its values keeps that error.
    """
    return [_done(work, values) for values in zip(*columns, strict=True)]


@dataclass(frozen=True)
class Row:
    """The tensors of one row, without the batch dimension; BYTES as object arrays of bytes."""

    tensors: Mapping[str, Array] = field(default_factory=dict)
    request_id: str = ""

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def texts(self, name: str) -> list[bytes]:
        """Return a BYTES tensor as a list; empty if it was not given."""
        return [_bytes(value) for value in self.tensors.get(name, ())]

    def text(self, name: str) -> bytes | None:
        """Return a BYTES tensor of one element; None if it was not given or is the empty string.

        The empty string counts as not given, so that rows with and without it can share a batch.
        """
        values = self.texts(name)
        if len(values) > 1:
            raise RequestError(f"{name} takes one value, not {len(values)}")
        return values[0] or None if values else None

    def number(self, name: str, default: int) -> int:
        """Return an integer tensor of one element."""
        values = self.tensors.get(name)
        if values is None or len(values) == 0:
            return default
        if len(values) > 1:
            raise RequestError(f"{name} takes one value, not {len(values)}")
        return int(values[0])

    def flag(self, name: str, default: bool) -> bool:
        """Return a BOOL tensor of one element."""
        return bool(self.number(name, int(default)))


def byte_strings(values: list[bytes]) -> Array:
    """Return a BYTES tensor."""
    return np.array(values, dtype=np.object_)


def bucket(length: int, smallest: int = 16) -> int:
    """Return the padded length: the least power of 4 times `smallest` that is at least `length`.

    Triton batches only requests of equal shape, so that few lengths give large batches.
    """
    size = smallest
    while size < length:
        size *= 4
    return size


def _done(work: Callable[..., T], values: tuple[Any, ...]) -> T | RequestError:
    earlier = next((value for value in values if isinstance(value, RequestError)), None)
    if earlier is not None:
        return earlier
    try:
        return work(*values)
    except RequestError as error:
        return error
    except Exception as error:
        return server_fault(error, work.__qualname__)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
