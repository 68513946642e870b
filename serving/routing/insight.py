"""The insight router: profile, recommendations and understanding of one customer in one JSON."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.serving.contract import ModelContract
from shopsight.serving.routing.limits import check_bounds
from shopsight.serving.routing.rows import RequestError, Row, byte_strings, server_fault
from shopsight.serving.routing.settings import Settings
from shopsight.serving.routing.tensors import FORECAST, FORECAST_TRUST, INSIGHT
from shopsight.serving.routing.together import AskAsync, Together

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]

SCHEMA_VERSION = 1
_PERSON = ("CUSTOMER_ID", "SOURCE", "SOURCE_ID")


class InsightRouter:
    """Answers `insight` rows by calling the other routers concurrently, each with all rows.

    The JSON has schema_version, release, request_id and three parts. profile: null for an unknown customer;
    its forecast is null for a customer who never bought, and left out without a value model; a number is null
    if the backtest withholds it, as value_status and its siblings say. recommendations: `suppressed` says why
    there are none (a recent message or event of the customer), else null. understanding: null without TEXT;
    its answer is null if a person should answer. A part is left out if the release lacks its router; profile
    and recommendations are also left out if TEXT comes without a customer.
    """

    def __init__(self, folder: Path, release: str) -> None:
        self._release = release
        self._calls = ModelContract.read(folder).calls
        self._suppressing = set(Settings.read(folder).get("suppressing_intents", []))

    async def answer(self, rows: Sequence[Row], ask: AskAsync) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a router at this release."""
        together = Together(ask)
        return list(await asyncio.gather(*(self._answer_or_error(row, together) for row in rows)))

    async def _answer_or_error(self, row: Row, ask: AskAsync) -> Answer | RequestError:
        try:
            insight = await self._insight(row, ask)
            # JSON has no NaN: unknown values are null here, and any NaN that is left is a fault.
            told = json.dumps(insight, ensure_ascii=False, allow_nan=False).encode()
        except RequestError as error:
            return error
        except Exception as error:
            return server_fault(error, "insight")
        return {"INSIGHT": byte_strings([told])}

    async def _insight(self, row: Row, ask: AskAsync) -> dict[str, Any]:
        check_bounds(row, INSIGHT.inputs)
        person = {name: _single(value) for name in _PERSON if (value := row.text(name))}
        text = row.text("TEXT")
        if not person and not text:
            raise RequestError("nothing is asked: give CUSTOMER_ID, or SOURCE with SOURCE_ID, or TEXT")
        if text and "understand" not in self._calls:
            raise RequestError("TEXT is given, but this release has no language model; leave it out")
        request_id = row.request_id or uuid.uuid4().hex
        limit = {"K": np.array([[row.number("K", 10)]], dtype=np.int32)}
        parts: dict[str, Awaitable[Any]] = {}
        if person and "profile" in self._calls:
            parts["profile"] = _profile(person, ask, request_id)
        if person and "recommend" in self._calls:
            parts["recommendations"] = _recommendations(person | limit, ask, request_id)
        if "understand" in self._calls:
            parts["understanding"] = _understanding(text, ask, request_id)
        found = dict(zip(parts, await asyncio.gather(*parts.values()), strict=True))
        if "recommendations" in found:
            self._suppress(found)
        return {
            "schema_version": SCHEMA_VERSION,
            "release": self._release,
            "request_id": request_id,
            **found,
        }

    def _suppress(self, found: dict[str, Any]) -> None:
        """Suppress recommendations for a customer who needs help first, by their record or this message."""
        offered, suppressed = found["recommendations"]
        said = found.get("understanding")
        if said and not said["is_out_of_scope"]:
            wanted = said.get("intents", [said["intent"]])
            suppressed = next((name for name in wanted if name in self._suppressing), suppressed)
        found["recommendations"] = [] if suppressed else offered
        found["suppressed"] = suppressed


async def _profile(person: Mapping[str, Array], ask: AskAsync, request_id: str) -> dict[str, Any] | None:
    try:
        answer = await ask("profile", person, request_id)
    except RequestError as error:
        if error.code == "NOT_FOUND":
            return None
        raise
    names, values = _texts(answer, "FEATURE_NAME"), answer["FEATURE_VALUE"].reshape(-1).tolist()
    missing = set(_texts(answer, "MISSING"))
    forecast = {"forecast": _forecast(answer, missing)} if "CHURN" in answer else {}
    return {
        "segment": _texts(answer, "SEGMENT")[0],
        "segment_description": _texts(answer, "SEGMENT_DESCRIPTION")[0],
        "features": {
            name: None if name in missing else value for name, value in zip(names, values, strict=True)
        },
        **forecast,
    }


def _forecast(answer: Mapping[str, Array], missing: Container[str]) -> dict[str, Any] | None:
    """Return the forecast with the status of each number; a withheld number is null."""
    if all(spec.name in missing for spec in FORECAST) and not _all_withheld(answer):
        return None
    numbers = (spec for spec in (*FORECAST, *FORECAST_TRUST) if spec.datatype != "BYTES")
    words = (spec for spec in FORECAST_TRUST if spec.datatype == "BYTES")
    return {
        "horizon_days": int(answer["HORIZON_DAYS"].reshape(-1)[0]),
        "currency": _texts(answer, "CURRENCY")[0],
        **{
            spec.name.lower(): None if spec.name in missing else float(answer[spec.name].reshape(-1)[0])
            for spec in numbers
        },
        **{spec.name.lower(): _texts(answer, spec.name)[0] for spec in words},
    }


def _all_withheld(answer: Mapping[str, Array]) -> bool:
    names = (spec.name for spec in FORECAST_TRUST if spec.name.endswith("_STATUS"))
    return all(_texts(answer, name)[0] == "withheld" for name in names)


async def _recommendations(
    asked: Mapping[str, Array], ask: AskAsync, request_id: str
) -> tuple[list[dict[str, Any]], str | None]:
    answer = await ask("recommend", asked, request_id)
    scores = answer["SCORE"].reshape(-1).tolist()
    listed = zip(_texts(answer, "ITEM_ID"), scores, _texts(answer, "REASON_CODE"), strict=True)
    offered = [
        {"rank": rank, "item_id": item, "score": score, "reason_code": reason}
        for rank, (item, score, reason) in enumerate(listed, start=1)
        if item  # "" pads a list that was answered together with a longer one
    ]
    return offered, _texts(answer, "SUPPRESSED")[0] or None


async def _understanding(text: bytes | None, ask: AskAsync, request_id: str) -> dict[str, Any] | None:
    if text is None:
        return None
    answer = await ask("understand", {"TEXT": _single(text)}, request_id)
    found = {
        "intent": _texts(answer, "INTENT")[0],
        "confidence": float(answer["CONFIDENCE"].reshape(-1)[0]),
    }
    if "INTENTS" in answer:
        # "" pads the list of a message that was read together with one that wants more.
        found["intents"] = [name for name in _texts(answer, "INTENTS") if name]
    if "SENTIMENT" in answer:
        found["sentiment"] = _texts(answer, "SENTIMENT")[0]
    found["is_out_of_scope"] = bool(answer["IS_OUT_OF_SCOPE"].reshape(-1)[0])
    if "ANSWER" in answer:
        found["answer"] = _texts(answer, "ANSWER")[0] or None
        found["answer_source"] = _texts(answer, "ANSWER_SOURCE")[0] or None
    return found


def _single(value: bytes) -> Array:
    return np.array([[value]], dtype=np.object_)


def _texts(answer: Mapping[str, Array], name: str) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else str(value) for value in answer[name].reshape(-1)]
