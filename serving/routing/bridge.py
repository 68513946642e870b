"""The bridge between Triton's python backend and the routers: requests to rows, answers to responses.

Triton's module `pb_utils` exists only inside the server and is passed as an argument, so that this file can
be imported anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, cast, get_args

import numpy as np

from shopsight.serving.at_work import AtWork
from shopsight.serving.faults import noted
from shopsight.serving.routing.limits import check_request
from shopsight.serving.routing.rows import ErrorCode, RequestError, Row, server_fault

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
# Triton drops the error code when one router calls another. The calling router therefore sets a request
# parameter, and the code is then put in front of the error message.
_ASKED_BY_ROUTER = "asked_by_router"
_CODE_END = "|"
_AT_WORK = AtWork()
_PADDING = {"f": 0.0, "O": b"", "i": 0, "b": False}  # of the shorter rows of a request with several


class Router(Protocol):
    """Interface of a router for `serve`."""

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]: ...


class AsyncRouter(Protocol):
    """Interface of a router for `serve_async`."""

    async def answer(
        self,
        rows: Sequence[Row],
        ask: Callable[[str, Mapping[str, Array], str], Awaitable[Mapping[str, Array]]],
    ) -> list[Answer | RequestError]: ...


def serve(requests: Sequence[Any], router: Router, pb_utils: Any, version: str) -> list[Any]:
    """Answer a batch of requests; a request that cannot be answered gets its own error."""

    def ask(model: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        call = _call(pb_utils, model, version, inputs, "")
        with _AT_WORK.waiting():
            response = call.exec()
        return _answer_of(model, response)

    with _AT_WORK.batch():
        batches = [_read(request) for request in requests]
        return _responses(requests, batches, _answered(router, _all_rows(batches), ask), pb_utils)


async def serve_async(requests: Sequence[Any], router: AsyncRouter, pb_utils: Any, version: str) -> list[Any]:
    """Answer a batch of requests with a router that calls several models concurrently."""

    async def ask(model: str, inputs: Mapping[str, Array], request_id: str) -> dict[str, Array]:
        call = _call(pb_utils, model, version, inputs, request_id)
        with _AT_WORK.waiting():
            response = await call.async_exec()
        return _answer_of(model, response)

    with _AT_WORK.batch():
        batches = [_read(request) for request in requests]
        answers = await router.answer(_all_rows(batches), ask)
        return _responses(requests, batches, answers, pb_utils)


def _answered(router: Router, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
    """Return a router's answers; if a batch fails, its halves are tried separately, down to single rows."""
    try:
        return router.answer(rows, ask)
    except Exception as error:  # any fault: the other rows of the batch must still be answered
        if len(rows) == 1:
            return [error if isinstance(error, RequestError) else server_fault(error, type(router).__name__)]
    half = len(rows) // 2
    return [*_answered(router, rows[:half], ask), *_answered(router, rows[half:], ask)]


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
    """Return the router's error for the error of a model that it called."""
    code, end, told = message.partition(_CODE_END)
    if end and code in get_args(ErrorCode):
        return RequestError(told, cast(ErrorCode, code))
    reference = noted(message, f"a call of {model}")
    return RequestError(f"{model} does not answer (reference {reference}); try again", "UNAVAILABLE")


def _read(request: Any) -> list[Row] | RequestError:
    try:
        return _rows(request)
    except RequestError as error:
        return error
    except Exception as error:  # what the backend raises for tensors that it cannot unpack
        return server_fault(error, "reading a request")


def _rows(request: Any) -> list[Row]:
    try:
        name = request.request_id()
        name.encode()
    except UnicodeError:
        raise RequestError("the request id is not valid UTF-8; send UTF-8, or leave it out") from None
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    check_request(name, tensors)
    count = len(next(iter(tensors.values())))
    return [
        Row({key: value[i] for key, value in tensors.items()}, f"{name}-{i}" if name and count > 1 else name)
        for i in range(count)
    ]


def _all_rows(batches: Sequence[list[Row] | RequestError]) -> list[Row]:
    return [row for batch in batches if not isinstance(batch, RequestError) for row in batch]


def _responses(
    requests: Sequence[Any],
    batches: Sequence[list[Row] | RequestError],
    answers: Sequence[Answer | RequestError],
    pb_utils: Any,
) -> list[Any]:
    remaining = iter(answers)
    return [
        _response(
            request,
            [batch] if isinstance(batch, RequestError) else list(islice(remaining, len(batch))),
            pb_utils,
        )
        for request, batch in zip(requests, batches, strict=True)
    ]


def _response(request: Any, answers: Sequence[Answer | RequestError], pb_utils: Any) -> Any:
    for position, answer in enumerate(answers):
        if isinstance(answer, RequestError):
            where = f"row {position}: " if len(answers) > 1 else ""
            return _refusal(request, where, answer, pb_utils)
    rows = [answer for answer in answers if not isinstance(answer, RequestError)]
    try:
        tensors = [pb_utils.Tensor(name, stacked([row[name] for row in rows])) for name in rows[0]]
        return pb_utils.InferenceResponse(tensors)
    except Exception as error:
        return _refusal(request, "", server_fault(error, "writing an answer"), pb_utils)


def _refusal(request: Any, where: str, error: RequestError, pb_utils: Any) -> Any:
    message = f"{where}{error}"
    if _is_asked_by_router(request):
        message = f"{error.code}{_CODE_END}{message}"
    code = getattr(pb_utils.TritonError, error.code)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


def _is_asked_by_router(request: Any) -> bool:
    try:
        parameters = json.loads(request.parameters() or "{}")
    except (ValueError, RecursionError):  # callers choose the parameters, so they may be anything
        return False
    return isinstance(parameters, dict) and parameters.get(_ASKED_BY_ROUTER) is True


def stacked(values: Sequence[Array]) -> Array:
    """Stack one output of several rows; shorter ones are padded, BYTES with "" and numbers with 0.

    Callers recognise padding by the empty BYTES beside a number. NaN is not used, as JSON has none.
    """
    width = max(len(value) for value in values)
    joined = np.full((len(values), width), _PADDING[values[0].dtype.kind], dtype=values[0].dtype)
    for row, value in zip(joined, values, strict=True):
        row[: len(value)] = value
    return joined
