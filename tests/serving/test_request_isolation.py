"""Whatever one request holds, the others in its batch get the answers that they get alone."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopsight.serving.contract import TensorSpec
from shopsight.serving.routing.bridge import serve, serve_async
from shopsight.serving.routing.insight import InsightRouter
from shopsight.serving.routing.limits import MAX_REQUEST_BYTES, MAX_REQUEST_ID_BYTES
from shopsight.serving.routing.profile import ProfileRouter
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.serving.routing.tensors import MAX_ITEMS, ROUTERS
from shopsight.serving.routing.understand import UnderstandRouter
from tests.serving.fake_triton import Request, Response, asked_by_router, backend
from tests.serving.test_routers import Members
from tests.serving.tiny_models import KEY, TinyShop

Array = np.ndarray[Any, Any]
DAY = 86_400_000_000
NOW = 1_764_000_000_000_000
INT64 = np.iinfo(np.int64)
LEAKS = re.compile(r"Traceback|\.py\b|At:|/\w+/\w+|site-packages")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyShop(seed=5).write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def routers(models: Path) -> dict[str, Any]:
    return {
        "recommend": RecommendRouter(models / "recommend", "7", load_key=lambda: KEY),
        "profile": ProfileRouter(models / "profile", "7", load_key=lambda: KEY),
        "understand": UnderstandRouter(models / "understand", "7"),
        "insight": InsightRouter(models / "insight", "7"),
    }


class Triton:
    """Answers batches of requests to any of the routers, as the server does."""

    def __init__(self, routers: Mapping[str, Any], members: Callable[..., Mapping[str, Array]]) -> None:
        self.routers, self.members = routers, members

    def __call__(self, model: str, *requests: Request) -> list[Response]:
        pb_utils = backend(self._ask)
        if model == "insight":
            return asyncio.run(serve_async(requests, self.routers[model], pb_utils, "7"))
        return serve(requests, self.routers[model], pb_utils, "7")

    def _ask(self, model: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if model not in self.routers:
            return self.members(model, inputs)
        (answer,) = self(model, Request(inputs, parameter_bytes=asked_by_router()))
        if answer.error is not None:
            raise _PassedOnError(answer.error.text)
        return answer.arrays()


class _PassedOnError(Exception):
    pass


@pytest.fixture
def triton(routers: dict[str, Any], models: Path) -> Triton:
    return Triton(routers, Members(models))


def texts(*values: str | bytes) -> Array:
    row = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array([row], dtype=np.object_).reshape(1, len(row))


def numbers(*values: int) -> Array:
    return np.array([values], dtype=np.int64)


def k(value: int) -> Array:
    return np.array([[value]], dtype=np.int32)


def feature(*values: float) -> Array:
    return np.array([values], dtype=np.float32)


GOOD: dict[str, list[dict[str, Array]]] = {
    "recommend": [
        {"CUSTOMER_ID": texts("c0003"), "K": k(5)},
        {
            "HISTORY_ITEM": texts("item-1", "item-4"),
            "HISTORY_EVENT": texts("view", "purchase"),
            "HISTORY_TIME": numbers(NOW - DAY, NOW),
        },
        {"SOURCE": texts("web"), "SOURCE_ID": texts("w11"), "EXCLUDE": texts("item-2")},
        {"CUSTOMER_ID": texts("nobody"), "ALLOW": texts("item-4", "item-5", "物品-6")},
    ],
    "profile": [
        {"CUSTOMER_ID": texts("c0007")},
        {"FEATURE": feature(0.5, np.nan, 2.0)},
        {"SOURCE": texts("web"), "SOURCE_ID": texts("w3")},
    ],
    "understand": [
        {"TEXT": texts("where is my parcel")},
        {"TEXT": texts("谢谢")},
        {"TEXT": texts("money " * 9)},
    ],
    "insight": [
        {"CUSTOMER_ID": texts("c0003"), "TEXT": texts("where is my parcel"), "K": k(2)},
        {"TEXT": texts("lovely")},
        {"CUSTOMER_ID": texts("c0007"), "K": k(4)},
    ],
}

STRINGS: list[bytes] = [
    b"", b"\xff\xfe", b"\0", b"a\0b", b"\xed\xa0\x80", b"x" * 1_000_000, "\u202e\ufeff\U0010ffff".encode(),
    b"c0003\0", b"{}", b"../../etc/passwd", b"NaN", "é".encode("latin-1"),
]  # fmt: skip
EXTREMES: dict[str, list[Any]] = {
    "BYTES": STRINGS,
    "INT64": [INT64.min, INT64.max, -1, 0, -62_135_596_800_000_000, 253_402_300_799_999_999, NOW * 1000],
    "INT32": [-(2**31), 2**31 - 1, -1, 0, 1, 1001],
    "FP32": [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, 0.0],
    "BOOL": [False, True],
}
DTYPES = {"BYTES": object, "INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}


def tensor(spec: TensorSpec, values: Sequence[Any]) -> Array:
    array = np.empty((1, len(values)), dtype=DTYPES[spec.datatype])
    array[0, :] = values
    return array


def extreme_requests(model: str) -> Iterator[tuple[str, Request]]:
    """Every tensor with every extreme value, alone and in place of a good request's; ids and parameters."""
    for spec in ROUTERS[model].inputs:
        for value in EXTREMES[spec.datatype]:
            for length in (1, 3):
                wrong = {spec.name: tensor(spec, [value] * length)}
                yield f"{spec.name} {value!r:.30} x {length}", Request(wrong)
                yield f"{spec.name} {value!r:.30} x {length} among good", Request(GOOD[model][0] | wrong)
                if model == "recommend":
                    yield f"{spec.name} {value!r:.30} x {length} history", Request(GOOD[model][1] | wrong)
        yield f"{spec.name} of no values", Request({spec.name: tensor(spec, [])})
        many = tensor(spec, [EXTREMES[spec.datatype][0]] * (MAX_ITEMS + 1))
        yield f"{spec.name} of too many values", Request(GOOD[model][0] | {spec.name: many})
        yield f"{spec.name} of no rows", Request({spec.name: tensor(spec, [])[:0]})
    good = GOOD[model][0]
    for identity in (b"\xff", b"\xed\xa0\x80", b"a\0b", b"i" * 1_000_000):
        yield f"request id {identity!r:.30}", Request(good, identity)
    for parameters in (b"\xff", b"[", b"null", b'{"asked_by_router": 1}', b"[" * 100_000, b'{"a": NaN}'):
        yield f"parameters {parameters!r:.30}", Request(good, parameter_bytes=parameters)
        yield f"parameters {parameters!r:.30} of a bad one", Request({}, parameter_bytes=parameters)
    yield "rows that disagree", Request(good | {"CUSTOMER_ID": np.array([[b"a"], [b"b"]], dtype=object)})


def random_requests(model: str, seed: int, count: int) -> Iterator[tuple[str, Request]]:
    """Any tensors together, each with any mix of extreme values, of any length."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        tensors = {}
        for spec in ROUTERS[model].inputs:
            if rng.random() < 0.5:
                chosen = rng.integers(len(EXTREMES[spec.datatype]), size=int(rng.integers(0, 4)))
                tensors[spec.name] = tensor(spec, [EXTREMES[spec.datatype][i] for i in chosen])
        yield f"random {number}", Request(tensors)


def assert_same(found: Response, alone: Response, case: str) -> None:
    assert found.error is None, (case, found.error)
    ours, theirs = found.arrays(), alone.arrays()
    assert ours.keys() == theirs.keys(), case
    for name in ours.keys() - {"REQUEST_ID"}:
        assert ours[name].dtype == theirs[name].dtype, (case, name)
        if name == "INSIGHT":
            told = [json.loads(v[name][0, 0]) | {"request_id": ""} for v in (ours, theirs)]
            assert told[0] == told[1], case
        else:
            assert ours[name].tolist() == theirs[name].tolist(), (case, name)


@pytest.mark.parametrize("model", list(ROUTERS))
def test_good_requests_are_answered_as_alone_whatever_is_beside_them(
    triton: Triton, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    alone = [triton(model, Request(good))[0] for good in GOOD[model]]
    cases = [*extreme_requests(model), *random_requests(model, seed=1, count=60)]
    for case, bad in cases:
        good = [Request(one) for one in GOOD[model]]
        found = triton(model, *good[:1], bad, *good[1:])
        refused = found.pop(1)
        for one, expected in zip(found, alone, strict=True):
            assert_same(one, expected, case)
        if refused.error is not None:
            assert not LEAKS.search(refused.error.text), (case, refused.error)
            assert len(refused.error.text) < 600, case
            assert refused.error.code != "INTERNAL", (case, caplog.text)
        else:
            assert_json(refused, case)


def assert_json(answer: Response, case: str) -> None:
    for name, value in answer.arrays().items():
        if value.dtype.kind == "f":
            assert np.isfinite(value).all(), (case, name)
        if name == "INSIGHT":
            json.loads(value[0, 0], parse_constant=lambda constant: pytest.fail(f"{case}: {constant}"))


def test_absurd_times_are_refused_and_far_ones_are_folded_in(triton: Triton) -> None:
    def asked(*times: int) -> Response:
        good = GOOD["recommend"][1]
        (found,) = triton("recommend", Request(good | {"HISTORY_TIME": numbers(*times)}))
        return found

    nanoseconds = asked(NOW * 1000, NOW * 1000)
    assert nanoseconds.error is not None
    assert "HISTORY_TIME[0]" in nanoseconds.error.text and "microseconds" in nanoseconds.error.text
    first, last = -62_135_596_800_000_000, 253_402_300_799_999_999
    for times in ((first, first), (last, last), (first, last), (last, first), (-5 * DAY, -4 * DAY)):
        assert set(asked(*times).arrays()["REASON_CODE"].ravel()) == {b"folded_in"}, times
    assert_same(asked(-1 * DAY, 0), asked(NOW - DAY, NOW), "age counts from the customer's latest event")


def test_an_event_that_says_nothing_moves_no_weight(triton: Triton) -> None:
    good = GOOD["recommend"][1]
    later = {
        "HISTORY_ITEM": texts("item-1", "item-4", "item-4", ""),
        "HISTORY_EVENT": texts("view", "purchase", "search", "view"),
        "HISTORY_TIME": numbers(NOW - DAY, NOW, 253_402_300_799_999_999, NOW + 900 * DAY),
    }
    assert_same(*triton("recommend", Request(later), Request(good)), "later")


BOUNDS = [
    ("recommend", {"HISTORY_ITEM": texts(*["item-1"] * (MAX_ITEMS + 1))}, "HISTORY_ITEM", "latest"),
    ("recommend", {"EXCLUDE": texts(*["item-1"] * (MAX_ITEMS + 1))}, "EXCLUDE", "fewer"),
    ("recommend", {"ALLOW": texts(*["item-1"] * (MAX_ITEMS + 1))}, "ALLOW", "fewer"),
    ("recommend", {"ALLOW": texts("item-1", "i" * 1025)}, "ALLOW[1]", "shorter"),
    ("recommend", {"CUSTOMER_ID": texts("c" * 1025)}, "CUSTOMER_ID", "shorter"),
    ("recommend", {"K": k(1001)}, "K is 1001", "from 1 to 1000"),
    ("insight", {"CUSTOMER_ID": texts("c0003"), "K": k(-3)}, "K is -3", "from 1 to 1000"),
    ("profile", {"FEATURE": feature(1.0, np.inf, 1.0)}, "FEATURE[1] is inf", "NaN where nothing"),
    ("profile", {"SOURCE": texts("web"), "SOURCE_ID": texts("w" * 2000)}, "SOURCE_ID", "at most 1024"),
    ("understand", {"TEXT": texts("x" * 201)}, "TEXT has 201 bytes", "at most 200"),
]


@pytest.mark.parametrize(("model", "wrong", "names", "remedy"), BOUNDS, ids=lambda v: str(v)[:30])
def test_what_is_too_large_is_refused_with_tensor_bound_and_remedy(
    triton: Triton, model: str, wrong: dict[str, Array], names: str, remedy: str
) -> None:
    (refused,) = triton(model, Request(wrong))
    assert refused.error is not None and refused.error.code == "INVALID_ARG"
    assert names in refused.error.text and remedy in refused.error.text


def test_a_request_is_bounded_as_a_whole(triton: Triton) -> None:
    rows = np.full((17, 1024), b"i" * 1024, dtype=object)
    (large,) = triton("recommend", Request({"EXCLUDE": rows}))
    assert large.error is not None and f"at most {MAX_REQUEST_BYTES}" in large.error.text
    (long,) = triton("recommend", Request(GOOD["recommend"][0], b"i" * (MAX_REQUEST_ID_BYTES + 1)))
    assert long.error is not None and f"at most {MAX_REQUEST_ID_BYTES}" in long.error.text
    (named,) = triton("recommend", Request(GOOD["recommend"][0], b"i" * MAX_REQUEST_ID_BYTES))
    assert named.arrays()["REQUEST_ID"].tolist() == [[b"i" * MAX_REQUEST_ID_BYTES]]


@pytest.mark.parametrize("model", ["recommend", "profile", "understand"])
def test_a_member_that_fails_over_one_row_fails_that_row_alone(
    routers: dict[str, Any], models: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    members = Members(models)
    poison = {
        "recommend": {"CUSTOMER_ID": texts("c0004")},
        "profile": {"FEATURE": feature(7.0, 7.0, 7.0)},
        "understand": {"TEXT": texts("parcel parcel")},
    }[model]
    fatal: list[Array] = []

    def fragile(name: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        first = next(iter(inputs.values()))
        if any(np.array_equal(row, bad) for bad in fatal for row in first):
            raise RuntimeError("Non-zero status code in /onnxruntime_src/gather.cc")
        return members(name, inputs)

    triton = Triton(routers, fragile)
    good = [Request(one) for one in GOOD[model]]
    alone = [triton(model, one)[0] for one in good]

    def remember(name: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        fatal.append(next(iter(inputs.values()))[0])
        return members(name, inputs)

    Triton(routers, remember)(model, Request(poison))
    found = triton(model, good[0], Request(poison), *good[1:])
    refused = found.pop(1)
    for one, expected in zip(found, alone, strict=True):
        assert_same(one, expected, model)
    assert refused.error is not None and refused.error.code == "UNAVAILABLE"
    assert not LEAKS.search(refused.error.text)
    reference = re.search(r"reference (\w+)", refused.error.text)
    assert reference is not None and reference[1] in caplog.text


def test_a_fault_of_the_server_is_told_by_reference_and_logged_without_the_customer(
    triton: Triton, routers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    history = routers["recommend"]._history
    read = type(history).read

    def broken(self: Any, row: Any) -> Any:
        if (name := row.text("CUSTOMER_ID")) == b"jane@example.org":
            raise KeyError(name)
        return read(self, row)

    monkeypatch.setattr(type(history), "read", broken)
    good = Request(GOOD["recommend"][0])
    answered, failed = triton("recommend", good, Request({"CUSTOMER_ID": texts("jane@example.org")}))
    assert_same(answered, triton("recommend", good)[0], "beside a fault")
    assert failed.error is not None and failed.error.code == "INTERNAL"
    assert not LEAKS.search(failed.error.text)
    reference = failed.error.text.rpartition(" ")[2]
    assert f"fault {reference}" in caplog.text
    assert "KeyError at" in caplog.text and "in broken" in caplog.text
    assert "jane" not in caplog.text and "jane" not in failed.error.text


def test_intents_of_an_insight_are_not_padded_by_its_neighbours(models: Path) -> None:
    async def ask(_: str, inputs: Mapping[str, Array], __: str) -> dict[str, Array]:
        wants = [
            [b"refund", b"delivery"] if b"both" in text else [b"thanks", b""] for text in inputs["TEXT"][:, 0]
        ]
        if len(wants) == 1:
            wants = [[name for name in wants[0] if name]]
        rows = len(wants)
        return {
            "INTENT": np.array([[one[0]] for one in wants], dtype=object),
            "INTENTS": np.array(wants, dtype=object),
            "CONFIDENCE": np.full((rows, 1), 0.5, np.float32),
            "IS_OUT_OF_SCOPE": np.zeros((rows, 1), np.bool_),
        }

    router = InsightRouter(models / "insight", "7")
    rows = [Row({"TEXT": np.array([text], dtype=object)}) for text in (b"thanks", b"both")]
    together = asyncio.run(router.answer(rows, ask))
    alone = asyncio.run(router.answer(rows[:1], ask))
    told = [json.loads(a["INSIGHT"][0])["understanding"] for a in (together[0], alone[0])]  # type: ignore[index]
    assert told[0] == told[1]
    assert told[0]["intents"] == ["thanks"]
