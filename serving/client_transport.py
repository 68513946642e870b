"""One request to Triton over gRPC or HTTP with the same errors for both; thread-safe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import tritonclient.grpc as triton_grpc
import urllib3
from tritonclient.http import InferenceServerClient as HttpCodec
from tritonclient.http import InferInput as HttpInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from shopsight.serving.client_deadline import answered_within, connection_pool
from shopsight.serving.client_errors import (
    DeadlineExceededError,
    RequestRefusedError,
    ServerUnavailableError,
    UnknownCustomerError,
)

Arrays = Mapping[str, np.ndarray[Any, Any]]

_MAX_MESSAGE_BYTES = 2**31 - 1
# No proxy, and quick reconnects: by default gRPC reads the proxy variables and waits up to two minutes
# between two attempts to connect.
_CHANNEL_ARGUMENTS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
]


class Transport(Protocol):
    """Interface of a transport; each call returns or raises a ClientError."""

    def infer(self, model: str, inputs: Arrays, request_id: str, seconds: float) -> dict[str, Any]:
        """Ask a model once and return its outputs by name."""
        ...

    def is_ready(self, model: str | None, seconds: float) -> bool:
        """Ask once whether the server, or one model of it, takes requests."""
        ...

    def close(self) -> None:
        """Close every connection: an idle one would delay the server's shutdown."""
        ...


class GrpcTransport:
    """Requests over one gRPC channel."""

    def __init__(self, url: str) -> None:
        self._client = triton_grpc.InferenceServerClient(url, channel_args=_CHANNEL_ARGUMENTS)

    def infer(self, model: str, inputs: Arrays, request_id: str, seconds: float) -> dict[str, Any]:
        """Ask a model once and return its outputs by name."""
        tensors = grpc_inputs(inputs)
        try:
            result = self._client.infer(model, tensors, request_id=request_id, client_timeout=seconds)
        except InferenceServerException as error:
            raise _grpc_error(model, error) from error
        return grpc_outputs(result)

    def is_ready(self, model: str | None, seconds: float) -> bool:
        """Ask once whether the server, or one model of it, takes requests."""
        try:
            if model is None:
                return bool(self._client.is_server_ready(client_timeout=seconds))
            return bool(self._client.is_model_ready(model, client_timeout=seconds))
        except InferenceServerException as error:
            raise _grpc_error(model or "server", error) from error

    def close(self) -> None:
        """Close the channel."""
        self._client.close()


class HttpTransport:
    """Requests over a pool of HTTP connections, in Triton's binary form."""

    def __init__(self, url: str) -> None:
        self._pool = connection_pool(url)

    def infer(self, model: str, inputs: Arrays, request_id: str, seconds: float) -> dict[str, Any]:
        """Ask a model once and return its outputs by name."""
        tensors = [_filled(HttpInput, name, array) for name, array in inputs.items()]
        body, json_size = HttpCodec.generate_request_body(tensors, request_id=request_id)
        # Always set: Triton is known to crash on a large body of the form type that some libraries default
        # to.
        headers = {"Content-Type": "application/octet-stream"}
        if json_size is not None:
            headers["Inference-Header-Content-Length"] = str(json_size)
        response = self._send(
            "POST", f"/v2/models/{quote(model, safe='')}/infer", seconds, body=body, headers=headers
        )
        if response.status != 200:
            raise _http_error(model, response)
        try:
            return _http_outputs(response)
        except Exception as error:  # the codec raises various types for an answer that is not Triton's
            raise ServerUnavailableError(
                f"{self._pool.host}:{self._pool.port} gave no Triton answer ({type(error).__name__}); "
                "is this its HTTP address?"
            ) from error

    def is_ready(self, model: str | None, seconds: float) -> bool:
        """Ask once whether the server, or one model of it, takes requests."""
        path = "/v2/health/ready" if model is None else f"/v2/models/{quote(model, safe='')}/ready"
        return bool(self._send("GET", path, seconds).status == 200)

    def close(self) -> None:
        """Close the pool's connections."""
        self._pool.close()

    def _send(self, method: str, path: str, seconds: float, **options: Any) -> Any:
        try:
            with answered_within(seconds):
                return self._pool.request(method, path, timeout=urllib3.Timeout(total=seconds), **options)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise DeadlineExceededError(f"no answer within {seconds:.3g} seconds") from error
        except urllib3.exceptions.HTTPError as error:
            raise ServerUnavailableError(f"no connection to {self._pool.host}:{self._pool.port}") from error


def grpc_inputs(inputs: Arrays) -> list[Any]:
    """Return arrays as the request tensors of `tritonclient.grpc`, blocking or asyncio."""
    return [_filled(triton_grpc.InferInput, name, array) for name, array in inputs.items()]


def grpc_outputs(result: Any) -> dict[str, Any]:
    """Return a gRPC answer's outputs by name; BYTES as object arrays of bytes."""
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def _filled(kind: Any, name: str, array: np.ndarray[Any, Any]) -> Any:
    tensor = kind(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _grpc_error(model: str, error: InferenceServerException) -> Exception:
    status, message = str(error.status()).removeprefix("StatusCode."), str(error.message())
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceededError("no answer within the deadline")
    if status == "UNAVAILABLE":
        return ServerUnavailableError(message)
    return _refusal(model, message, not_found=status == "NOT_FOUND")


def _http_outputs(response: Any) -> dict[str, Any]:
    size = response.headers.get("Inference-Header-Content-Length")
    result = HttpCodec.parse_response_body(response.data, header_length=None if size is None else int(size))
    names = [output["name"] for output in result.get_response()["outputs"]]
    return {name: result.as_numpy(name) for name in names}


def _http_error(model: str, response: Any) -> Exception:
    try:
        message = str(json.loads(response.data)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"HTTP status {response.status}"
    if response.status == 503:
        return ServerUnavailableError(message)
    return _refusal(model, message, not_found=response.status == 404)


def _refusal(model: str, message: str, *, not_found: bool) -> RequestRefusedError:
    # Triton says NOT_FOUND of a model that is not loaded, our routers of a customer.
    if not_found and "unknown model" not in message:
        return UnknownCustomerError(model, message)
    return RequestRefusedError(model, message)
