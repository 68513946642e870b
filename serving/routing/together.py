"""Batches concurrent calls: single-row calls of one model at the same time become one request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
AskAsync = Callable[[str, Mapping[str, Array], str], Awaitable[Mapping[str, Array]]]


@dataclass(frozen=True)
class _Waiting:
    inputs: Mapping[str, Array]
    request_id: str
    answer: asyncio.Future[Mapping[str, Array]]


class Together:
    """Wraps an `ask` of single rows [1, ...]: rows that wait in one event-loop turn become one request.

    Only rows with the same inputs and shapes are batched. If a batch fails, its rows are sent one by one, as
    only some of them may be faulty. Answers of a batch are padded to the longest.
    """

    def __init__(self, ask: AskAsync) -> None:
        self._ask = ask
        self._waiting: dict[tuple[Any, ...], list[_Waiting]] = defaultdict(list)
        self._sending: set[asyncio.Task[None]] = set()  # the event loop holds only weak references

    async def __call__(self, model: str, inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        row = _Waiting(inputs, request_id, loop.create_future())
        shape = (model, *((name, value.shape) for name, value in inputs.items()))
        self._waiting[shape].append(row)
        return await row.answer

    def _send(self) -> None:
        groups, self._waiting = self._waiting, defaultdict(list)
        for (model, *_), rows in groups.items():
            task = asyncio.ensure_future(self._answer(model, rows))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _answer(self, model: str, rows: list[_Waiting]) -> None:
        if len(rows) == 1:
            await self._answer_one(model, rows[0])
            return
        joined = {name: np.concatenate([row.inputs[name] for row in rows]) for name in rows[0].inputs}
        try:
            answer = await self._ask(model, joined, "")
        except Exception:  # no row may wait for ever
            await asyncio.gather(*(self._answer_one(model, row) for row in rows))
            return
        for i, row in enumerate(rows):
            row.answer.set_result({name: value[i : i + 1] for name, value in answer.items()})

    async def _answer_one(self, model: str, row: _Waiting) -> None:
        try:
            row.answer.set_result(await self._ask(model, row.inputs, row.request_id))
        except Exception as error:  # the awaiting caller of the row gets it
            row.answer.set_exception(error)
