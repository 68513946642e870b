"""Replay of golden requests: Triton's answers must equal those of the trained model."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from shopsight.serving.contract import ContractError, Golden, GoldenTensor, read_goldens
from shopsight.serving.release import Release

Array = np.ndarray[Any, Any]

# These outputs differ between answers; RELEASE is compared with the release that was asked.
_RELEASE, _REQUEST_ID = "RELEASE", "REQUEST_ID"
_INSIGHT = "INSIGHT"
_INSIGHT_VARIES = ("release", "request_id")
_DTYPES = {"BOOL": np.bool_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BYTES": np.object_}
CHANNEL_ARGUMENTS = [("grpc.enable_http_proxy", 0)]


class GoldenError(RuntimeError):
    """A served answer differs from the trained model's; the message names model, request and tensor."""


def replay(grpc_url: str, repository: Path, release: Release, timeout_seconds: float = 30.0) -> int:
    """Ask every golden request of a release at its own version and compare; returns how many were asked.

    Strings and integers must be equal, FP32 equal within the golden's tolerance, and shapes equal (a member's
    list may be longer than asked for). The JSON of `insight` is compared value by value. Raises GoldenError
    for the first difference or failed request.
    """
    asked = 0
    with triton_grpc.InferenceServerClient(grpc_url, channel_args=CHANNEL_ARGUMENTS) as client:
        for level in release.levels():
            for model in level:
                for position, golden in enumerate(read_goldens(release.folder(repository, model))):
                    ask(client, model, release, position, golden, timeout_seconds)
                    asked += 1
    return asked


def ask(
    client: Any, model: str, release: Release, position: int, golden: Golden, timeout_seconds: float
) -> None:
    """Ask one golden request of a model at its release and compare; raises GoldenError."""
    number, batched = release.number, release.models[model].kind == "onnx"
    where = f"{model} of release {number}, golden request {position}"
    try:
        answer = client.infer(
            model, _inputs(golden.request), model_version=str(number), client_timeout=timeout_seconds
        )
    except InferenceServerException as error:
        raise GoldenError(f"{where} failed: {error.message()}") from error
    for expected in golden.answer:
        if expected.name in (_RELEASE, _REQUEST_ID):
            continue
        found = answer.as_numpy(expected.name)
        if found is None:
            raise GoldenError(f"{where}: no {expected.name} in the answer")
        if batched:
            found = as_long_as(expected, found)
        if problem := difference(expected, found, golden.tolerance):
            raise GoldenError(f"{where}: {problem}")
    stated = answer.as_numpy(_RELEASE)
    if stated is not None and any(value != str(number).encode() for value in stated.reshape(-1)):
        raise GoldenError(f"{where}: answered by another release")


def as_long_as(expected: GoldenTensor, found: Array) -> Array:
    """Cut a member's answer to the requested length.

    Triton batches a golden request with those of callers; its list is then as long as the longest in the
    batch.
    """
    if found.ndim != len(expected.shape):
        return found
    return found[tuple(slice(0, length) for length in expected.shape)]


def difference(expected: GoldenTensor, found: Array, tolerance: float) -> str | None:
    """Return how a tensor differs from the golden one, None if it does not."""
    if tuple(found.shape) != tuple(expected.shape):
        return f"{expected.name} has shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    wanted = to_array(expected)
    if expected.name == _INSIGHT:
        pairs = zip(wanted.reshape(-1), found.reshape(-1), strict=True)
        problems = (_json_difference(_insight(a), _insight(b), tolerance, _INSIGHT) for a, b in pairs)
        return next((problem for problem in problems if problem), None)
    if expected.datatype == "FP32":
        same = np.isclose(found, wanted, rtol=0.0, atol=tolerance, equal_nan=True)
    else:
        same = np.asarray(found == wanted)
    if same.all():
        return None
    at = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{expected.name}{list(at)} is {found[at]!r}, expected {wanted[at]!r}"


def to_array(tensor: GoldenTensor) -> Array:
    """Return a golden tensor as an array, BYTES as an object array of bytes.

    Raises ContractError when the data has another type or size than the tensor says.
    """
    try:
        flat: Array = np.array(tensor.data, dtype=_DTYPES[tensor.datatype]).reshape(-1)
        if tensor.datatype == "BYTES":
            flat = np.array([str(value).encode() for value in flat], dtype=np.object_)
        return np.asarray(flat.reshape(tensor.shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise ContractError(
            f"{tensor.name} of a golden request is not {tensor.datatype} {list(tensor.shape)} ({error})"
        ) from error


def _inputs(request: Sequence[GoldenTensor]) -> list[Any]:
    inputs = []
    for tensor in request:
        given = triton_grpc.InferInput(tensor.name, list(tensor.shape), tensor.datatype)
        given.set_data_from_numpy(to_array(tensor))
        inputs.append(given)
    return inputs


def _insight(raw: bytes) -> Any:
    return {key: value for key, value in json.loads(raw).items() if key not in _INSIGHT_VARIES}


def _json_difference(wanted: Any, found: Any, tolerance: float, where: str) -> str | None:
    if isinstance(wanted, dict) and isinstance(found, dict) and wanted.keys() == found.keys():
        parts = [(wanted[key], found[key], f"{where}.{key}") for key in wanted]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        parts = [(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(wanted, found, strict=True))]
    elif isinstance(wanted, float) and isinstance(found, int | float):
        close = math.isclose(wanted, found, rel_tol=0.0, abs_tol=tolerance)
        return None if close else f"{where} is {found!r}, expected {wanted!r}"
    else:
        return None if wanted == found else f"{where} is {found!r}, expected {wanted!r}"
    return next((p for a, b, name in parts if (p := _json_difference(a, b, tolerance, name))), None)
