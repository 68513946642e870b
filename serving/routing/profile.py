"""The profile router: a customer's measured features, and the segment that they fall into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.contract import ModelContract
from serving.pseudonym import PseudonymKey, load_key
from serving.routing.people import UNKNOWN, People
from serving.routing.rows import RequestError, Row, byte_strings

Array = np.ndarray[Any, Any]
Answer = dict[str, Array]
Ask = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]


class ProfileRouter:
    """Answers `profile` rows; one call of the member `segment` for all of them.

    Data: customers.safetensors with customer_id and feature float32 [n, n_features] (raw values, NaN where
    nothing was measured); identities.safetensors; preprocessing feature_names and segments (name,
    description), in the order of the member's outputs.
    """

    def __init__(self, folder: Path, release: str, load_key: Callable[[], PseudonymKey] = load_key) -> None:
        preprocessing = ModelContract.read(folder).preprocessing
        self._release = release.encode()
        self._people = People(folder, load_key, preprocessing.get("key_id", ""))
        self._feature_names = [str(name).encode() for name in preprocessing["feature_names"]]
        self._segments = [
            (str(s["name"]).encode(), str(s["description"]).encode()) for s in preprocessing["segments"]
        ]

    def answer(self, rows: Sequence[Row], ask: Ask) -> list[Answer | RequestError]:
        """Return an answer or the error for each row, in order; `ask` calls a member at this release."""
        found = [self._feature_or_error(row) for row in rows]
        features = [feature for feature in found if not isinstance(feature, RequestError)]
        if not features:
            return [error for error in found if isinstance(error, RequestError)]
        segments = iter(ask("segment", {"FEATURE": np.stack(features)})["SEGMENT"].reshape(-1).tolist())
        return [
            feature if isinstance(feature, RequestError) else self._answer(feature, next(segments))
            for feature in found
        ]

    def _feature_or_error(self, row: Row) -> Array | RequestError:
        try:
            return self._feature(row)
        except RequestError as error:
            return error

    def _feature(self, row: Row) -> Array:
        named = self._people.named(row)
        given = row.tensors.get("FEATURE")
        if given is not None:
            if len(given) != len(self._feature_names):
                raise RequestError(
                    f"FEATURE has {len(given)} values, this release measures {len(self._feature_names)}; "
                    "FEATURE_NAME of an answer lists them in order"
                )
            return np.asarray(given, dtype=np.float32)
        if not named:
            raise RequestError("nobody is named: give CUSTOMER_ID, SOURCE with SOURCE_ID, or FEATURE")
        person = self._people.row_of(row)
        if person == UNKNOWN:
            raise RequestError(
                "this release knows no such customer; send FEATURE to profile somebody unseen, "
                "or train and publish again after ingesting their events",
                "NOT_FOUND",
            )
        return np.asarray(self._people.arrays["feature"][person])

    def _answer(self, feature: Array, segment: int) -> Answer:
        name, description = self._segments[segment]
        return {
            "SEGMENT": byte_strings([name]),
            "SEGMENT_DESCRIPTION": byte_strings([description]),
            "FEATURE_NAME": byte_strings(self._feature_names),
            "FEATURE_VALUE": feature,
            "RELEASE": byte_strings([self._release]),
        }
