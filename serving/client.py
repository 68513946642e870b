"""The typed client of the endpoint: needs numpy and tritonclient, none of the training libraries."""

from __future__ import annotations

import json
import math
import random
import time
import uuid
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal, TypeVar

import numpy as np

from shopsight.serving.client_errors import (
    ClientError,
    DeadlineExceededError,
    RequestRefusedError,
    ServerUnavailableError,
    UnknownCustomerError,
)
from shopsight.serving.client_transport import Arrays, GrpcTransport, HttpTransport, Transport

__all__ = [
    "ClientError",
    "DeadlineExceededError",
    "Event",
    "Forecast",
    "Profile",
    "Recommendations",
    "RequestRefusedError",
    "ServerUnavailableError",
    "ShopsightClient",
    "Understanding",
    "UnknownCustomerError",
]

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_TRUSTED = ("VALUE", "EXPECTED_PURCHASES", "CHURN")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """An event of a customer: `event` is one of the events table's kinds, `timestamp` is timezone-aware."""

    item_id: str
    event: str
    timestamp: datetime


@dataclass(frozen=True)
class Recommendations:
    """Items in descending order of score with their reason codes, and the release and request that answered.

    suppressed: why this customer gets no recommendations now (a complaint, a return); None otherwise.
    """

    items: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    suppressed: str | None
    release: str
    request_id: str


@dataclass(frozen=True)
class Forecast:
    """Forecast of a customer's next `horizon_days`: value in `currency` and churn; withheld values are NaN.

    value_low and value_high: the prediction interval of the value. churn: the probability of no purchase.
    alive: the probability that the customer still buys here. The statuses hold for all customers of the
    release: tested, widened (the interval includes the error of the backtest), untested or withheld, each
    with its reason. A miss is |expected - happened| / happened of the backtest's total, NaN without a
    backtest.
    """

    value: float
    value_low: float
    value_high: float
    currency: str
    churn: float
    alive: float
    expected_purchases: float
    horizon_days: int
    value_status: str
    value_reason: str
    value_miss: float
    expected_purchases_status: str
    expected_purchases_reason: str
    expected_purchases_miss: float
    churn_status: str
    churn_reason: str


@dataclass(frozen=True)
class Profile:
    """A customer's segment, measured features (NaN: not measured), and forecast.

    forecast: None for a customer who never bought, and if the release has no value model.
    """

    segment: str
    description: str
    features: dict[str, float]
    forecast: Forecast | None
    release: str


@dataclass(frozen=True)
class Understanding:
    """The intent of a message with its confidence, its sentiment (None: not learned) and the shop's answer.

    intents: all intents, likeliest first (one, unless training messages had several). is_out_of_scope:
    whether the message has probably none of the known intents. answer and answer_source (its id in the shop's
    answers): None if no answer scores high enough; a person should answer.
    """

    intent: str
    intents: list[str]
    confidence: float
    sentiment: str | None
    is_out_of_scope: bool
    answer: str | None
    answer_source: str | None
    release: str


class ShopsightClient:
    """Client of the endpoint over gRPC or HTTP; thread-safe, and a context manager that closes it.

    `url` is host:port without a scheme. `deadline_seconds` bounds each call including its retries. Requests
    are read-only, so that a call is retried after a growing random pause while the server is unavailable.
    Calls raise DeadlineExceededError, ServerUnavailableError or RequestRefusedError, all ClientError.
    """

    def __init__(
        self, url: str, protocol: Literal["grpc", "http"] = "grpc", *, deadline_seconds: float
    ) -> None:
        if protocol not in ("grpc", "http"):
            raise ValueError(f"protocol is {protocol!r}; it takes 'grpc' or 'http'")
        if "://" in url:
            raise ValueError(f"url is {url!r}; give host:port without a scheme")
        if not deadline_seconds > 0:
            raise ValueError(f"deadline_seconds is {deadline_seconds}; it must be above 0")
        self._deadline_seconds = deadline_seconds
        self._transport: Transport = GrpcTransport(url) if protocol == "grpc" else HttpTransport(url)

    def recommend(
        self,
        *,
        customer_id: str | None = None,
        source: str | None = None,
        source_id: str | None = None,
        history: Sequence[Event] = (),
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        k: int = 10,
        personalised: bool = True,
        request_id: str | None = None,
    ) -> Recommendations:
        """Return up to `k` items for a customer, or for an anonymous `history` of events.

        A customer is named by our `customer_id` or by the channel's own `source` and `source_id`; a customer
        unknown to the release gets popular items. `allow` limits the answer to these items.
        """
        if allow is not None and not allow:
            raise ValueError("allow is empty: nothing could be recommended; leave it out to allow every item")
        inputs = _person(customer_id, source, source_id) | _history(history)
        inputs |= {"K": np.array([[k]], dtype=np.int32), "PERSONALISED": np.array([[personalised]])}
        if exclude:
            inputs["EXCLUDE"] = _texts(exclude)
        if allow is not None:
            inputs["ALLOW"] = _texts(allow)
        answer = self.infer("recommend", inputs, request_id)
        return Recommendations(
            items=tuple(_strings(answer["ITEM_ID"])),
            scores=tuple(answer["SCORE"].ravel().tolist()),
            reasons=tuple(_strings(answer["REASON_CODE"])),
            suppressed=_strings(answer["SUPPRESSED"])[0] or None,
            release=_strings(answer["RELEASE"])[0],
            request_id=_strings(answer["REQUEST_ID"])[0],
        )

    def profile(
        self,
        *,
        customer_id: str | None = None,
        source: str | None = None,
        source_id: str | None = None,
        features: Sequence[float] | None = None,
    ) -> Profile:
        """Return a customer's profile, or that of a row of `features` (NaN: not measured).

        Raises UnknownCustomerError for a customer unknown to the release.
        """
        inputs = _person(customer_id, source, source_id)
        if features is not None:
            inputs["FEATURE"] = np.array([features], dtype=np.float32)
        if not inputs:
            raise ValueError("name a customer (customer_id, or source with source_id) or give features")
        answer = self.infer("profile", inputs)
        missing = set(_strings(answer["MISSING"]))
        values = dict(
            zip(_strings(answer["FEATURE_NAME"]), answer["FEATURE_VALUE"].ravel().tolist(), strict=True)
        )
        return Profile(
            segment=_strings(answer["SEGMENT"])[0],
            description=_strings(answer["SEGMENT_DESCRIPTION"])[0],
            features={name: math.nan if name in missing else value for name, value in values.items()},
            forecast=_forecast(answer, missing),
            release=_strings(answer["RELEASE"])[0],
        )

    def understand(self, text: str) -> Understanding:
        """Return the intent and sentiment of a message, and the shop's answer to it."""
        answer = self.infer("understand", {"TEXT": _texts([text])})
        sentiment = answer.get("SENTIMENT")
        return Understanding(
            intent=_strings(answer["INTENT"])[0],
            intents=[name for name in _strings(answer.get("INTENTS", answer["INTENT"])) if name],
            confidence=float(answer["CONFIDENCE"].ravel()[0]),
            sentiment=None if sentiment is None else _strings(sentiment)[0],
            is_out_of_scope=bool(answer["IS_OUT_OF_SCOPE"].ravel()[0]),
            answer=_strings(answer["ANSWER"])[0] or None if "ANSWER" in answer else None,
            answer_source=_strings(answer["ANSWER_SOURCE"])[0] or None if "ANSWER" in answer else None,
            release=_strings(answer["RELEASE"])[0],
        )

    def insight(
        self,
        *,
        customer_id: str | None = None,
        source: str | None = None,
        source_id: str | None = None,
        text: str | None = None,
        k: int = 10,
    ) -> dict[str, Any]:
        """Return profile, recommendations and understanding of a customer as the endpoint's JSON object."""
        inputs = _person(customer_id, source, source_id) | {"K": np.array([[k]], dtype=np.int32)}
        if text is not None:
            inputs["TEXT"] = _texts([text])
        insight: dict[str, Any] = json.loads(_strings(self.infer("insight", inputs)["INSIGHT"])[0])
        return insight

    def infer(self, model: str, inputs: Arrays, request_id: str | None = None) -> dict[str, Any]:
        """Ask any model and return its outputs by name, with the batch dimension; BYTES as object arrays.

        All retries have one request id: `request_id`, or a random one.
        """
        name = request_id or uuid.uuid4().hex
        return self._until_answered(lambda seconds: self._transport.infer(model, inputs, name, seconds))

    def is_ready(self, model: str | None = None) -> bool:
        """Whether the server, or one model of it, takes requests; asks once."""
        try:
            return self._transport.is_ready(model, self._deadline_seconds)
        except ClientError:
            return False

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> ShopsightClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _until_answered(self, attempt: Callable[[float], T]) -> T:
        deadline = time.monotonic() + self._deadline_seconds
        longest_pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return attempt(max(deadline - time.monotonic(), 0.001))
            except ServerUnavailableError:
                pause = random.uniform(0, longest_pause)  # jitter: callers must not retry in step
                if time.monotonic() + pause >= deadline:
                    raise
                time.sleep(pause)
                longest_pause = min(2 * longest_pause, _LONGEST_PAUSE_SECONDS)


def _person(customer_id: str | None, source: str | None, source_id: str | None) -> dict[str, Any]:
    if (source is None) != (source_id is None):
        raise ValueError("source and source_id name a customer together: give both or neither")
    named: Mapping[str, str | None] = {
        "CUSTOMER_ID": customer_id,
        "SOURCE": source,
        "SOURCE_ID": source_id,
    }
    return {name: _texts([value]) for name, value in named.items() if value is not None}


def _history(history: Sequence[Event]) -> dict[str, Any]:
    if not history:
        return {}
    for event in history:
        if event.timestamp.tzinfo is None:
            raise ValueError(f"history: the timestamp {event.timestamp} has no timezone")
    times = [(event.timestamp - _EPOCH) // timedelta(microseconds=1) for event in history]
    return {
        "HISTORY_ITEM": _texts([event.item_id for event in history]),
        "HISTORY_EVENT": _texts([event.event for event in history]),
        "HISTORY_TIME": np.array([times], dtype=np.int64),
    }


def _forecast(answer: Mapping[str, Any], missing: Container[str]) -> Forecast | None:
    if "CHURN" not in answer:
        return None
    numbers = ("VALUE", "VALUE_LOW", "VALUE_HIGH", "CHURN", "ALIVE", "EXPECTED_PURCHASES")
    statuses = {f"{name}_STATUS": _strings(answer[f"{name}_STATUS"])[0] for name in _TRUSTED}
    if all(name in missing for name in numbers) and set(statuses.values()) != {"withheld"}:
        return None
    told: dict[str, Any] = {
        name.lower(): math.nan if name in missing else float(answer[name].ravel()[0])
        for name in (*numbers, "VALUE_MISS", "EXPECTED_PURCHASES_MISS")
    }
    words = statuses | {f"{name}_REASON": _strings(answer[f"{name}_REASON"])[0] for name in _TRUSTED}
    told |= {name.lower(): said for name, said in words.items()}
    return Forecast(
        **told,
        currency=_strings(answer["CURRENCY"])[0],
        horizon_days=int(answer["HORIZON_DAYS"].ravel()[0]),
    )


def _texts(values: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.array([[value.encode("utf-8") for value in values]], dtype=np.object_)


def _strings(array: np.ndarray[Any, Any]) -> list[str]:
    return [value.decode("utf-8") for value in array.ravel().tolist()]
