"""The profile router: a customer's measured features, segment and forecast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.serving.contract import TensorSpec
from shopsight.serving.pseudonym import PseudonymKey, load_key
from shopsight.serving.routing.limits import check_bounds
from shopsight.serving.routing.people import UNKNOWN, People
from shopsight.serving.routing.rows import RequestError, Row, byte_strings, each
from shopsight.serving.routing.settings import Settings
from shopsight.serving.routing.tensors import FORECAST, FORECAST_TRUST, PROFILE

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class _Measured:
    """The data of one row: features [n_features] and forecast [outputs], NaN if there is none."""

    feature: Array
    forecast: Array


class ProfileRouter:
    """Answers `profile` rows; one call of the member `segment` for all of them.

    Data: customers.safetensors with customer_id and feature float32 [n, n_features] (raw values, NaN where
    nothing was measured); identities.safetensors; preprocessing feature_names and segments (name,
    description), in the order of the member's outputs. With a value model also forecast float32 [n, 6], NaN
    for who never bought, columns as tensors.FORECAST, and preprocessing forecast (currency, horizon_days and
    trust, which says of value, expected_purchases and churn their status, reason and miss);
    a row of FEATURE has no purchases to forecast from, so its forecast is NaN. Answers hold no NaN, which
    JSON lacks: what is not known is 0, and MISSING names it.
    """

    def __init__(self, folder: Path, release: str, load_key: Callable[[], PseudonymKey] = load_key) -> None:
        preprocessing = Settings.read(folder)
        self._release = release.encode()
        self._people = People(folder, load_key, preprocessing.get("key_id", ""))
        self._feature_names = [str(name).encode() for name in preprocessing["feature_names"]]
        self._segments = [
            (str(s["name"]).encode(), str(s["description"]).encode()) for s in preprocessing["segments"]
        ]
        self._measured_names = [*self._feature_names, *(spec.name.encode() for spec in FORECAST)]
        forecast = preprocessing.get("forecast")
        self._units: Answer = {}
        self._untested: list[bytes] = []  # outputs of the backtest, if there was none
        if forecast is not None:
            trust = forecast["trust"]
            self._units = {
                "CURRENCY": byte_strings([forecast["currency"].encode()]),
                "HORIZON_DAYS": np.array([forecast["horizon_days"]], dtype=np.int32),
                **{spec.name: _told(trust, spec) for spec in FORECAST_TRUST},
            }
            self._untested = [spec.name.encode() for spec in FORECAST_TRUST if _of_trust(trust, spec) is None]

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        found = each(self._measured, rows)
        known = [one.feature for one in found if not isinstance(one, RequestError)]
        segments = iter(ask("segment", {"FEATURE": np.stack(known)})["SEGMENT"].reshape(-1) if known else ())
        segment = [one if isinstance(one, RequestError) else int(next(segments)) for one in found]
        return each(self._answer, found, segment)

    def _measured(self, row: Row) -> _Measured:
        check_bounds(row, PROFILE.inputs)
        named = self._people.named(row)
        given = row.tensors.get("FEATURE")
        if given is not None:
            if len(given) != len(self._feature_names):
                raise RequestError(
                    f"FEATURE has {len(given)} values, this release measures {len(self._feature_names)}; "
                    "FEATURE_NAME of an answer lists them in order"
                )
            nothing = np.full(len(FORECAST) if self._units else 0, np.nan, dtype=np.float32)
            return _Measured(np.asarray(given, dtype=np.float32), nothing)
        if not named:
            raise RequestError("no customer is named: give CUSTOMER_ID, SOURCE with SOURCE_ID, or FEATURE")
        person = self._people.row_of(row)
        if person == UNKNOWN:
            raise RequestError(
                "this release knows no such customer; send FEATURE to profile a new customer, "
                "or train and publish again after ingesting their events",
                "NOT_FOUND",
            )
        arrays = self._people.arrays
        forecast = arrays["forecast"][person] if self._units else np.empty(0, dtype=np.float32)
        return _Measured(np.asarray(arrays["feature"][person]), forecast)

    def _answer(self, measured: _Measured, segment: int) -> Answer:
        name, description = self._segments[segment]
        forecast = np.asarray(measured.forecast, dtype=np.float32)
        unknown = np.flatnonzero(np.isnan(np.concatenate([measured.feature, forecast])))
        told = zip(FORECAST, np.nan_to_num(forecast, nan=0.0), strict=True) if self._units else ()
        return {
            "SEGMENT": byte_strings([name]),
            "SEGMENT_DESCRIPTION": byte_strings([description]),
            "FEATURE_NAME": byte_strings(self._feature_names),
            "FEATURE_VALUE": np.nan_to_num(measured.feature, nan=0.0),
            **{spec.name: np.array([value], dtype=np.float32) for spec, value in told},
            **self._units,
            "MISSING": byte_strings([self._measured_names[i] for i in unknown] + self._untested),
            "RELEASE": byte_strings([self._release]),
        }


def _told(trust: Mapping[str, Any], spec: TensorSpec) -> Array:
    value = _of_trust(trust, spec)
    if spec.datatype == "BYTES":
        return byte_strings([str(value).encode()])
    return np.array([0.0 if value is None else value], dtype=np.float32)


def _of_trust(trust: Mapping[str, Any], spec: TensorSpec) -> Any:
    """Return the contract's value for an output such as VALUE_STATUS: trust["value"]["status"]."""
    quantity, _, what = spec.name.lower().rpartition("_")
    return trust[quantity][what]
