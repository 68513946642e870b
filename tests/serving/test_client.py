"""The client says the same over gRPC and HTTP, keeps its deadline, and retries only what can be mended."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from shopsight.serving.client import (
    ClientError,
    DeadlineExceededError,
    Event,
    RequestRefusedError,
    ServerUnavailableError,
    ShopsightClient,
    UnknownCustomerError,
)
from shopsight.serving.routing.tensors import ROUTERS
from shopsight.serving.server import TritonServer
from tests.serving.conftest import write_python_model
from tests.waiting import HANG_SECONDS, wait_until

ROOT = Path(__file__).resolve().parents[2]
Protocol = Literal["grpc", "http"]

# Each stub answers with what it was asked, so that a test sees the request as a router sees it.
STUB = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

def texts(*values):
    return np.array([[value.encode() for value in values]], dtype=np.object_)

def asked(request):
    def plain(value):
        return value.decode() if isinstance(value, bytes) else value
    return {t.name(): [plain(v) for v in t.as_numpy().ravel().tolist()] for t in request.inputs()}

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        try:
            outputs = answer(request, asked(request))
        except LookupError as error:
            error = pb_utils.TritonError(error.args[0], getattr(pb_utils.TritonError, error.args[1]))
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(*named) for named in outputs.items()])
"""
ANSWERS = {
    "recommend": """
def answer(request, given):
    items = texts(json.dumps(given, sort_keys=True), "item-\\u00fc")
    return {"ITEM_ID": items, "SCORE": np.float32([[2.5, 1.25]]), "REASON_CODE": texts("personal", "popular"),
            "SUPPRESSED": texts("return" if given.get("CUSTOMER_ID") == ["sent-back"] else ""),
            "RELEASE": texts("7"), "REQUEST_ID": texts(request.request_id())}
""",
    "profile": """
def answer(request, given):
    if given.get("CUSTOMER_ID") == ["nobody"]:
        raise LookupError("this release knows no such customer", "NOT_FOUND")
    return {"SEGMENT": texts("loyal"), "SEGMENT_DESCRIPTION": texts(json.dumps(given, sort_keys=True)),
            "FEATURE_NAME": texts("recency", "frequency"), "FEATURE_VALUE": np.float32([[1.5, 0.0]]),
            "MISSING": texts("frequency"), "RELEASE": texts("7")}
""",
    "understand": """
def answer(request, given):
    text = given["TEXT"][0]
    if text == "slow":
        time.sleep(3)  # longer than the caller's deadline, on any machine
    if text == "":
        raise LookupError("TEXT is empty; send what the customer wrote", "INVALID_ARG")
    outputs = {"INTENT": texts(text), "CONFIDENCE": np.float32([[0.75]]), "RELEASE": texts("7"),
               "IS_OUT_OF_SCOPE": np.array([[text == "hm"]])}
    if text == "no sentiment":
        return outputs
    answer = "" if text == "hm" else "以30天为限"
    outputs |= {"ANSWER": texts(answer), "ANSWER_SOURCE": texts(answer[:1])}
    return outputs | {"SENTIMENT": texts("positive")}
""",
    "insight": """
def answer(request, given):
    return {"INSIGHT": texts(json.dumps({"schema_version": 1, "asked": given}, ensure_ascii=False))}
""",
}


def stub_config(name: str) -> str:
    tensors = []
    for role, specs in (("input", ROUTERS[name].inputs), ("output", ROUTERS[name].outputs)):
        for spec in specs:
            data_type = "STRING" if spec.datatype == "BYTES" else spec.datatype
            optional = "optional: true" if role == "input" and spec.optional else ""
            dims = ", ".join(str(dim) for dim in spec.dims)
            tensors.append(
                f'{role} {{ name: "{spec.name}" data_type: TYPE_{data_type} dims: [ {dims} ] {optional} }}'
            )
    return "max_batch_size: 64\n" + "\n".join(tensors)


@pytest.fixture(scope="module")
def stub_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("stubs")
    for name, source in ANSWERS.items():
        write_python_model(repository, name, STUB + source, stub_config(name))
    return repository


@pytest.fixture(scope="module")
def stub_server(stub_repository: Path) -> Iterator[TritonServer]:
    with TritonServer.start(stub_repository, models=list(ANSWERS)) as server:
        yield server


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, stub_server: TritonServer) -> Iterator[ShopsightClient]:
    url = stub_server.grpc_url if request.param == "grpc" else stub_server.http_url
    with ShopsightClient(url, request.param, deadline_seconds=HANG_SECONDS) as client:
        yield client


@pytest.mark.triton
def test_recommend_sends_what_is_known_and_reads_the_list(client: ShopsightClient) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    answer = client.recommend(
        source="web",
        source_id="w-1",
        history=[Event("a", "view", noon), Event("b", "purchase", noon + timedelta(microseconds=5))],
        exclude=["x"],
        allow=["a", "ü"],
        k=3,
        personalised=False,
        request_id="request-1",
    )
    ten_utc = 1_767_261_600_000_000
    assert json.loads(answer.items[0]) == {
        "SOURCE": ["web"],
        "SOURCE_ID": ["w-1"],
        "HISTORY_ITEM": ["a", "b"],
        "HISTORY_EVENT": ["view", "purchase"],
        "HISTORY_TIME": [ten_utc, ten_utc + 5],
        "EXCLUDE": ["x"],
        "ALLOW": ["a", "ü"],
        "K": [3],
        "PERSONALISED": [False],
    }
    assert answer.items[1] == "item-ü"
    assert answer.scores == (2.5, 1.25)
    assert answer.reasons == ("personal", "popular")
    assert (answer.release, answer.request_id) == ("7", "request-1")


@pytest.mark.triton
def test_every_request_has_an_id_of_its_own(client: ShopsightClient) -> None:
    ids = {client.recommend(customer_id="c").request_id for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids


@pytest.mark.triton
def test_profile_of_a_customer_of_a_row_and_of_nobody(client: ShopsightClient) -> None:
    known = client.profile(customer_id="c-1")
    assert (known.segment, json.loads(known.description)) == ("loyal", {"CUSTOMER_ID": ["c-1"]})
    assert known.features["recency"] == 1.5
    assert math.isnan(known.features["frequency"])
    unseen = client.profile(features=[1.0, 2.0])
    assert json.loads(unseen.description) == {"FEATURE": [1.0, 2.0]}
    with pytest.raises(UnknownCustomerError, match="knows no such customer") as refused:
        client.profile(customer_id="nobody")
    assert isinstance(refused.value, RequestRefusedError)
    assert refused.value.model == "profile"


@pytest.mark.triton
def test_understand_reads_texts_of_any_language_and_a_missing_sentiment(client: ShopsightClient) -> None:
    answer = client.understand("我要退货")
    assert (answer.intent, answer.confidence, answer.sentiment) == ("我要退货", 0.75, "positive")
    assert (answer.answer, answer.answer_source, answer.is_out_of_scope) == ("以30天为限", "以", False)
    unsure = client.understand("hm")
    assert (unsure.answer, unsure.answer_source, unsure.is_out_of_scope) == (None, None, True)
    without = client.understand("no sentiment")
    assert (without.sentiment, without.answer, without.answer_source) == (None, None, None)
    with pytest.raises(RequestRefusedError, match="TEXT is empty") as refused:
        client.understand("")
    assert not isinstance(refused.value, UnknownCustomerError)


@pytest.mark.triton
def test_insight_is_the_endpoints_json(client: ShopsightClient) -> None:
    asked = {"CUSTOMER_ID": ["c"], "TEXT": ["grüße"], "K": [5]}
    assert client.insight(customer_id="c", text="grüße", k=5) == {"schema_version": 1, "asked": asked}


@pytest.mark.triton
def test_a_late_answer_is_a_deadline_error(stub_server: TritonServer) -> None:
    for protocol, url in (("grpc", stub_server.grpc_url), ("http", stub_server.http_url)):
        with (
            ShopsightClient(url, protocol, deadline_seconds=0.5) as client,  # type: ignore[arg-type]
            pytest.raises(DeadlineExceededError, match="no answer within"),
        ):
            client.understand("slow")


@pytest.mark.triton
def test_a_model_that_is_not_loaded_is_no_unknown_customer(client: ShopsightClient) -> None:
    assert client.is_ready()
    assert client.is_ready("profile")
    assert not client.is_ready("absent")
    with pytest.raises(ClientError, match="absent") as refused:
        client.infer("absent", {"X": np.zeros((1, 2), np.float32)})
    assert not isinstance(refused.value, UnknownCustomerError)


@pytest.mark.triton
def test_wrong_tensors_are_refused_with_the_servers_reason(client: ShopsightClient) -> None:
    with pytest.raises(RequestRefusedError, match="TEXT") as refused:
        client.infer("understand", {"TEXT": np.zeros((1, 1), np.float32)})
    assert refused.value.model == "understand"


@pytest.mark.triton
def test_one_client_serves_many_threads(client: ShopsightClient) -> None:
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        for _ in range(5):
            found[number] = client.understand(f"text {number}").intent

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"text {number}" for number in range(8)}


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_request_waits_for_a_server_that_comes_up(
    protocol: Protocol, tmp_path: Path, start_server: Any
) -> None:
    repository = tmp_path / "repository"
    write_python_model(repository, "understand", STUB + ANSWERS["understand"], stub_config("understand"))
    port = free_port()
    answers: list[str] = []

    def ask() -> None:
        with ShopsightClient(f"127.0.0.1:{port}", protocol, deadline_seconds=HANG_SECONDS) as client:
            wait_until(lambda: client.is_ready("understand"), "the model is ready")
            answers.append(client.understand("hello").intent)

    thread = threading.Thread(target=ask)
    thread.start()
    start_server(repository, models=["understand"], **{f"{protocol}_port": port})
    thread.join(HANG_SECONDS)
    assert answers == ["hello"]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_away_is_tried_again_until_the_deadline(protocol: Protocol) -> None:
    with ShopsightClient(f"127.0.0.1:{free_port()}", protocol, deadline_seconds=0.4) as client:
        assert not client.is_ready()
        with pytest.raises(ServerUnavailableError):
            client.understand("hello")


class _Flaky:
    """A transport that fails in the given ways, then answers."""

    def __init__(self, *errors: ClientError) -> None:
        self.errors = list(errors)
        self.request_ids: list[str] = []
        self.sent: dict[str, Any] = {}

    def infer(self, _: str, inputs: Any, request_id: str, __: float) -> dict[str, Any]:
        self.sent = inputs
        self.request_ids.append(request_id)
        if self.errors:
            raise self.errors.pop(0)
        return {"OUT": np.zeros(1)}

    def is_ready(self, *_: Any) -> bool:
        return not self.errors

    def close(self) -> None:
        pass


def flaky_client(*errors: ClientError) -> tuple[ShopsightClient, _Flaky]:
    client = ShopsightClient("127.0.0.1:1", "http", deadline_seconds=HANG_SECONDS)
    transport = _Flaky(*errors)
    client._transport = transport
    return client, transport


def test_only_an_absent_server_is_tried_again_under_the_same_request_id() -> None:
    client, transport = flaky_client(ServerUnavailableError("away"), ServerUnavailableError("away"))
    assert set(client.infer("m", {})) == {"OUT"}
    assert len(transport.request_ids) == 3
    assert len(set(transport.request_ids)) == 1


@pytest.mark.parametrize(
    "error",
    [RequestRefusedError("m", "bad"), UnknownCustomerError("m", "who"), DeadlineExceededError("late")],
)
def test_what_a_retry_cannot_mend_is_raised_at_once(error: ClientError) -> None:
    client, transport = flaky_client(error)
    with pytest.raises(type(error)):
        client.infer("m", {})
    assert len(transport.request_ids) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.recommend(source="web"), "source and source_id"),
        (lambda c: c.recommend(customer_id="c", allow=[]), "allow is empty"),
        (lambda c: c.recommend(history=[Event("a", "view", datetime(2026, 1, 1))]), "no timezone"),
        (lambda c: c.profile(), "name a customer"),
    ],
)
def test_mistakes_are_named_before_anything_is_sent(call: Any, message: str) -> None:
    client, transport = flaky_client()
    with pytest.raises(ValueError, match=message):
        call(client)
    assert transport.request_ids == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "http://localhost:8000", "deadline_seconds": 1}, "without a scheme"),
        ({"url": "localhost:8000", "deadline_seconds": 0}, "must be above 0"),
        ({"url": "localhost:8000", "protocol": "smtp", "deadline_seconds": 1}, "'grpc' or 'http'"),
    ],
)
def test_a_client_that_cannot_work_is_not_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShopsightClient(**arguments)
    with pytest.raises(TypeError):
        ShopsightClient("localhost:8001")  # type: ignore[call-arg]


def test_the_client_needs_no_training_library() -> None:
    script = """
import sys
from datetime import UTC, datetime
for name in ("torch", "ray", "polars", "pandas", "pyarrow", "scipy", "sklearn", "numba", "onnx",
             "onnxruntime", "tokenizers", "safetensors", "rich", "typer"):
    sys.modules[name] = None
from shopsight.serving.client import ShopsightClient
with ShopsightClient("127.0.0.1:1", deadline_seconds=0.2) as client:
    print(client.is_ready())
"""
    completed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert completed.stdout.strip() == "False", completed.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_event_times_before_1970_and_after_2262_survive() -> None:
    """A datetime through float seconds would lose microseconds."""
    client, transport = flaky_client()
    moments = [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(2300, 1, 1, 0, 0, 0, 1, UTC)]
    with pytest.raises(KeyError):
        client.recommend(history=[Event("a", "view", moment) for moment in moments])
    assert transport.sent["HISTORY_TIME"].tolist() == [[-1, 10_413_792_000_000_001]]
