"""Bad requests at a real Triton: their neighbours are answered as alone, and no answer names a path."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopsight.serving.client import RequestRefusedError, ShopsightClient, UnknownCustomerError
from shopsight.serving.repository import publish, recover
from shopsight.serving.routing.tensors import MAX_ITEMS
from shopsight.serving.server import TritonServer
from tests.serving.tiny_models import KEY, TinyShop

pytestmark = pytest.mark.triton
LEAKS = re.compile(r"Traceback|\.py\b|At:|(?<!\d)/\w+/\w+|site-packages")


@pytest.fixture(scope="module")
def tiny() -> TinyShop:
    return TinyShop(seed=1)


@pytest.fixture(scope="module")
def server(tiny: TinyShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("shop")
    key_file, repository = folder / "key.json", folder / "repo"
    key_file.write_text(json.dumps({"key_id": KEY.key_id, "secret": KEY.secret.hex()}))
    recover(repository)
    with TritonServer.start(repository, key_file=key_file) as server:
        publish(tiny.write(folder / "models"), repository, server=server)
        yield server


def asked_by_http(server: TritonServer, model: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(
        f"http://{server.http_url}/v2/models/{model}/infer",
        data=body,
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status), response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def tensor(name: str, datatype: str, *values: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [1, len(values)], "data": [list(values)]}


def body(*tensors: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **more}).encode()


WHO = tensor("CUSTOMER_ID", "BYTES", "c0003")
NOW = 1_764_000_000_000_000
BAD_HTTP: dict[str, tuple[str, bytes]] = {
    "id that is not UTF-8": ("recommend", body(WHO, id="@").replace(b"@", b"\xff")),
    "id with a lone surrogate": ("recommend", body(WHO, id="\ud800")),
    "long id": ("recommend", body(WHO, id="i" * 100_000)),
    "parameter that is not UTF-8": ("recommend", body(WHO, parameters={"a": "@"}).replace(b"@", b"\xff")),
    "parameter of the routers": ("recommend", body(parameters={"asked_by_router": True})),
    "text that is not UTF-8": ("understand", body(tensor("TEXT", "BYTES", "@")).replace(b"@", b"\xff")),
    "long text": ("understand", body(tensor("TEXT", "BYTES", "x" * 1_000_000))),
    "too many rows": (
        "recommend",
        body({"name": "CUSTOMER_ID", "datatype": "BYTES", "shape": [65, 1], "data": ["c0003"] * 65}),
    ),
    "no rows": ("recommend", body({"name": "CUSTOMER_ID", "datatype": "BYTES", "shape": [0, 1], "data": []})),
    "rows that disagree": (
        "recommend",
        body(WHO, {"name": "K", "datatype": "INT32", "shape": [2, 1], "data": [3, 3]}),
    ),
    "absurd times": (
        "recommend",
        body(
            tensor("HISTORY_ITEM", "BYTES", "item-1", "item-2"),
            tensor("HISTORY_EVENT", "BYTES", "purchase", "view"),
            tensor("HISTORY_TIME", "INT64", -(2**63), 2**63 - 1),
        ),
    ),
    "history too long": ("recommend", body(tensor("HISTORY_ITEM", "BYTES", *["item-1"] * (MAX_ITEMS + 1)))),
    "infinite features": ("profile", body(tensor("FEATURE", "FP32", 1e39, 1.0, 1.0))),
    "index that a member does not have": (
        "intent_encoder",
        body(tensor("TOKEN_ID", "INT64", *[10**9] * 4), tensor("LENGTH", "INT64", 4)),
    ),
}  # fmt: skip


def test_callers_beside_bad_requests_are_answered_as_alone(server: TritonServer, tiny: TinyShop) -> None:
    """Every bad request is sent many times while others ask, so that Triton joins them in its batches."""

    def good(customer: int) -> list[bool]:
        with ShopsightClient(server.grpc_url, deadline_seconds=60) as client:
            expected, _ = tiny.recommend(customer, 5)
            feature = np.array_equal(
                list(client.profile(customer_id=f"c{customer:04d}").features.values()),
                tiny.feature[customer],
                equal_nan=True,
            )
            asked = [client.recommend(customer_id=f"c{customer:04d}", k=5) for _ in range(40)]
            return [feature, *(list(found.items) == expected for found in asked)]

    def bad(case: str) -> list[tuple[int, str]]:
        return [asked_by_http(server, *BAD_HTTP[case]) for _ in range(6)]

    with ThreadPoolExecutor(24) as pool:
        refusals = {case: pool.submit(bad, case) for case in BAD_HTTP}
        answers = [pool.submit(good, customer) for customer in range(1, 9)]
        for answer in answers:
            assert all(answer.result())
        for case, refused in refusals.items():
            for status, said in refused.result():
                assert not LEAKS.search(said), (case, said)
                assert len(said) < 1000, (case, said[:200])
                assert status >= 400 or case == "parameter that is not UTF-8", (case, said)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("id that is not UTF-8", "UTF-8"),
        ("long id", "at most 256"),
        ("absurd times", "HISTORY_TIME[0]"),
        ("history too long", "send the latest"),
        ("long text", "TEXT has 1000000 bytes, at most 200"),
        ("infinite features", "FEATURE"),
        ("too many rows", "64"),
    ],
)
def test_a_refusal_names_what_is_wrong(server: TritonServer, case: str, says: str) -> None:
    status, said = asked_by_http(server, *BAD_HTTP[case])
    assert says in said, said
    assert status == 400


def strict(said: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(said, parse_constant=lambda name: pytest.fail(f"bare {name}: {said}"))
    return loaded


def test_json_answers_hold_no_bare_nan_or_infinity(server: TritonServer, tiny: TinyShop) -> None:
    for customer in range(tiny.num_customers):
        who = tensor("CUSTOMER_ID", "BYTES", f"c{customer:04d}")
        status, said = asked_by_http(server, "profile", body(who))
        assert status == 200, said
        found = {output["name"]: output["data"] for output in strict(said)["outputs"]}
        missing = {"EXPECTED_PURCHASES_MISS"}
        missing |= {"feature_0"} if np.isnan(tiny.feature[customer, 0]) else set()
        if tiny.told(customer) is None:
            missing |= {"VALUE", "VALUE_LOW", "VALUE_HIGH", "CHURN", "ALIVE", "EXPECTED_PURCHASES"}
        assert set(found["MISSING"]) == missing
    rows = {"name": "CUSTOMER_ID", "datatype": "BYTES", "shape": [2, 1], "data": ["c0007", "c0005"]}
    for model in ("profile", "recommend"):
        limits = {"name": "K", "datatype": "INT32", "shape": [2, 1], "data": [2, 9]}
        status, said = asked_by_http(server, model, body(rows, *([limits] if model == "recommend" else [])))
        assert status == 200, said
        strict(said)


def test_a_request_that_is_too_large_as_a_whole_is_refused(server: TritonServer) -> None:
    with ShopsightClient(server.grpc_url, deadline_seconds=120) as client:
        rows = np.full((17, 1024), b"i" * 1024, dtype=np.object_)
        with pytest.raises(RequestRefusedError, match="bytes of tensors, at most"):
            client.infer("recommend", {"EXCLUDE": rows})


def test_a_server_without_a_key_says_so_once_and_without_its_path(
    tiny: TinyShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSIGHT_KEY_FILE", str(tmp_path / "nowhere" / "key.json"))
    recover(tmp_path / "repo")
    with TritonServer.start(tmp_path / "repo") as server:
        publish(tiny.write(tmp_path / "models"), tmp_path / "repo", server=server)
        for protocol, url in (("grpc", server.grpc_url), ("http", server.http_url)):
            with (
                ShopsightClient(url, protocol, deadline_seconds=600) as client,  # type: ignore[arg-type]
                pytest.raises(RequestRefusedError, match="has no pseudonymisation key") as refused,
            ):
                client.recommend(source="web", source_id="w3")
            assert not isinstance(refused.value, UnknownCustomerError)
            assert str(tmp_path) not in str(refused.value)
