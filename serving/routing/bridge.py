"""Between Triton's python backend and the routers: requests to rows, answers to responses.

`pb_utils`, Triton's module, exists only inside the server and is handed in, so that this file imports
anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast, get_args

import numpy as np

from serving.routing.rows import ErrorCode, RequestError, Row

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
# Triton drops the code of an error on its way from a router to the router that asked. A router that asks says
# so in the request's parameters, and is told the code in front of the message.
_ASKED_BY_ROUTER = "asked_by_router"
_CODE_END = "|"
_PADDING = {"f": -np.inf, "O": b"", "i": 0, "b": False}  # of the shorter rows of a request with several


class Router(Protocol):
    """What `serve` asks of a router."""

    def answer(
        self, rows: Sequence[Row], ask: Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
    ) -> list[Answer | RequestError]: ...


class AsyncRouter(Protocol):
    """What `serve_async` asks of a router."""

    async def answer(
        self,
        rows: Sequence[Row],
        ask: Callable[[str, Mapping[str, Array], str], Awaitable[Mapping[str, Array]]],
    ) -> list[Answer | RequestError]: ...


def serve(requests: Sequence[Any], router: Router, pb_utils: Any, version: str) -> list[Any]:
    """Answer a batch of requests; a request that cannot be answered gets an error of its own."""

    def ask(model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return _answer_of(model, _call(pb_utils, model, version, inputs, "").exec())

    batches = [_rows(request) for request in requests]
    rows = [row for batch in batches for row in batch]
    try:
        answers = router.answer(rows, ask)
    except RequestError as error:  # a member failed: nobody who waited on it has an answer
        answers = [error] * len(rows)
    return _responses(requests, batches, answers, pb_utils)


async def serve_async(requests: Sequence[Any], router: AsyncRouter, pb_utils: Any, version: str) -> list[Any]:
    """Answer a batch of requests by a router that asks several models at once."""

    async def ask(model: str, inputs: Mapping[str, Array], request_id: str) -> dict[str, Array]:
        call = _call(pb_utils, model, version, inputs, request_id)
        return _answer_of(model, await call.async_exec())

    batches = [_rows(request) for request in requests]
    answers = await router.answer([row for rows in batches for row in rows], ask)
    return _responses(requests, batches, answers, pb_utils)


def _call(pb_utils: Any, model: str, version: str, inputs: Mapping[str, Array], request_id: str) -> Any:
    return pb_utils.InferenceRequest(
        model_name=model,
        model_version=int(version),
        requested_output_names=[],
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        request_id=request_id,
        parameters={_ASKED_BY_ROUTER: True},
    )


def _answer_of(model: str, response: Any) -> dict[str, Array]:
    if response.has_error():
        raise _passed_on(model, response.error().message())
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def _passed_on(model: str, message: str) -> RequestError:
    """What a router says when a model that it asked gave an error."""
    code, end, told = message.partition(_CODE_END)
    if end and code in get_args(ErrorCode):
        return RequestError(told, cast(ErrorCode, code))
    return RequestError(f"{model} does not answer, try again: {message}", "UNAVAILABLE")


def _rows(request: Any) -> list[Row]:
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    count = max((len(value) for value in tensors.values()), default=0)
    name = request.request_id()
    return [
        Row({key: value[i] for key, value in tensors.items()}, f"{name}-{i}" if name and count > 1 else name)
        for i in range(count)
    ]


def _responses(
    requests: Sequence[Any],
    batches: Sequence[Sequence[Row]],
    answers: Sequence[Answer | RequestError],
    pb_utils: Any,
) -> list[Any]:
    responses, begin = [], 0
    for request, rows in zip(requests, batches, strict=True):
        responses.append(_response(request, answers[begin : begin + len(rows)], pb_utils))
        begin += len(rows)
    return responses


def _response(request: Any, answers: Sequence[Answer | RequestError], pb_utils: Any) -> Any:
    for position, answer in enumerate(answers):
        if isinstance(answer, RequestError):
            message = f"row {position}: {answer}" if len(answers) > 1 else str(answer)
            if _ASKED_BY_ROUTER in json.loads(request.parameters() or "{}"):
                message = f"{answer.code}{_CODE_END}{message}"
            code = getattr(pb_utils.TritonError, answer.code)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
    rows = [answer for answer in answers if not isinstance(answer, RequestError)]
    names = rows[0] if rows else {}
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor(name, stacked([row[name] for row in rows])) for name in names]
    )


def stacked(values: Sequence[Array]) -> Array:
    """Stack one output of several rows; shorter ones are padded, FP32 with -inf and BYTES with ""."""
    width = max(len(value) for value in values)
    joined = np.full((len(values), width), _PADDING[values[0].dtype.kind], dtype=values[0].dtype)
    for row, value in zip(joined, values, strict=True):
        row[: len(value)] = value
    return joined
