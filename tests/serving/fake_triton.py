"""Stands in for Triton's python backend where a test drives routers in its own process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Member = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Tensor:
    """One tensor of a request or an answer."""

    tensor_name: str
    value: Array

    def name(self) -> str:
        return self.tensor_name

    def as_numpy(self) -> Array:
        return self.value


@dataclass(frozen=True)
class Request:
    """What a caller sent; id and parameters as the bytes that came, which the backend decodes when asked."""

    tensors: Mapping[str, Array]
    identity: bytes = b""
    parameter_bytes: bytes = b""

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, value) for name, value in self.tensors.items()]

    def request_id(self) -> str:
        return self.identity.decode()

    def parameters(self) -> str:
        return self.parameter_bytes.decode()


@dataclass(frozen=True)
class Error:
    """Why a request has no answer."""

    text: str
    code: str = "INTERNAL"
    INTERNAL = "INTERNAL"
    INVALID_ARG = "INVALID_ARG"
    NOT_FOUND = "NOT_FOUND"
    UNAVAILABLE = "UNAVAILABLE"
    UNSUPPORTED = "UNSUPPORTED"

    def message(self) -> str:
        return self.text


@dataclass(frozen=True)
class Response:
    """An answer, or the error."""

    tensors: Sequence[Tensor] = ()
    error: Error | None = None

    def arrays(self) -> dict[str, Array]:
        """The outputs by name; an error where there is none."""
        assert self.error is None, self.error
        return {tensor.name(): tensor.as_numpy() for tensor in self.tensors}


@dataclass
class _Answered:
    """What a router gets for a request of its own."""

    outputs: Mapping[str, Array] = field(default_factory=dict)
    problem: Error | None = None

    def has_error(self) -> bool:
        return self.problem is not None

    def error(self) -> Error | None:
        return self.problem

    def output_tensors(self) -> list[Tensor]:
        return [Tensor(name, value) for name, value in self.outputs.items()]


def backend(member: Member) -> Any:
    """Return a `pb_utils` whose models are answered by `member`, an exception of which is Triton's error."""

    class Call:
        def __init__(self, model_name: str, inputs: Sequence[Tensor], **_: Any) -> None:
            self.model, self.inputs = model_name, {t.name(): t.as_numpy() for t in inputs}

        def exec(self) -> _Answered:
            try:
                return _Answered(member(self.model, self.inputs))
            except Exception as error:
                return _Answered(
                    problem=Error(f"{type(error).__name__}: {error}\n\nAt:\n  {__file__}(1): run")
                )

        async def async_exec(self) -> _Answered:
            return self.exec()

    return SimpleNamespace(
        Tensor=Tensor, InferenceResponse=Response, TritonError=Error, InferenceRequest=Call
    )


def asked_by_router() -> bytes:
    """The parameters of a request that a router sent."""
    return json.dumps({"asked_by_router": True}).encode()
