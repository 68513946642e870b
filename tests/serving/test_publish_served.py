"""Publishing into a real Triton: under load, refused, taken back, killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from shopsight.serving.client import RequestRefusedError, ShopsightClient, UnknownCustomerError
from shopsight.serving.confined import PathRefusedError
from shopsight.serving.golden import GoldenError, replay
from shopsight.serving.release import current_release
from shopsight.serving.repository import PublishError, load_release, publish, recover, rollback
from shopsight.serving.routing.tensors import FORECAST
from shopsight.serving.server import TritonServer
from shopsight.serving.staging import ROUTERS_VARIABLE, routers_folder
from tests.serving.tiny_models import KEY, TinyShop
from tests.waiting import HANG_SECONDS, wait_until

pytestmark = pytest.mark.triton
ROOT = Path(__file__).resolve().parents[2]
SLICE = ("mf_retrieval", "recommend")


class Shop:
    """A running server with release after release, each made with a seed that tells its answers apart."""

    def __init__(self, folder: Path, server: TritonServer, only: tuple[str, ...]) -> None:
        self.models, self.repository, self.server, self.only = (
            folder / "models",
            folder / "repo",
            server,
            only,
        )
        self.seeds: dict[str, TinyShop] = {}

    def publish(self, seed: int, **shape: Any) -> str:
        tiny = TinyShop(seed=seed, **shape)
        release = publish(tiny.write(self.models, self.only), self.repository, server=self.server)
        self.seeds[str(release.number)] = tiny
        return str(release.number)

    def client(self) -> ShopsightClient:
        return ShopsightClient(self.server.grpc_url, deadline_seconds=HANG_SECONDS)

    def assert_answers(self, release: str, client: ShopsightClient) -> None:
        found = client.recommend(customer_id="c0003", k=5)
        assert found.release == release
        assert list(found.items) == self.seeds[release].recommend(3, 5)[0]


def _shop(folder: Path, only: tuple[str, ...]) -> Iterator[Shop]:
    key_file, repository = folder / "key.json", folder / "repo"
    key_file.write_text(json.dumps({"key_id": KEY.key_id, "secret": KEY.secret.hex()}))
    recover(repository)
    with TritonServer.start(repository, key_file=key_file) as server:
        yield Shop(folder, server, only)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """All seven models at release 1; tests only ask."""
    for shop in _shop(tmp_path_factory.mktemp("everything"), ()):
        shop.publish(1)
        yield shop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """The recommender alone, at release 1."""
    for shop in _shop(tmp_path, SLICE):
        shop.publish(1)
        yield shop


def test_every_model_answers_through_triton_as_numpy_says(everything: Shop) -> None:
    tiny = everything.seeds["1"]
    with everything.client() as client:
        everything.assert_answers("1", client)
        assert client.recommend(source="web", source_id="w3", k=5).items == tuple(tiny.recommend(3, 5)[0])
        assert list(client.recommend(customer_id="?", k=3).items) == tiny.popular(3)
        found = client.profile(source="web", source_id="w7")
        assert found.segment == tiny.segments[tiny.segment_of(tiny.feature[7])]["name"]
        np.testing.assert_array_equal(list(found.features.values()), tiny.feature[7])
        assert found.forecast is not None and found.forecast.horizon_days == 90
        told = asdict(found.forecast)
        assert [told[spec.name.lower()] for spec in FORECAST] == tiny.forecast[7].tolist()
        assert client.profile(customer_id="c0005").forecast is None
        said = client.understand("谢谢 lovely")
        intent, confidence, sentiment = tiny.understand(["谢谢", "lovely"])
        assert (said.intent, said.sentiment) == (intent, sentiment)
        assert said.confidence == pytest.approx(confidence, abs=1e-5)
        insight = client.insight(source="web", source_id="w9", text="my money back", k=4)
        assert [r["item_id"] for r in insight["recommendations"]] == tiny.recommend(9, 4)[0]
        assert insight["understanding"]["intent"] == tiny.understand(["my", "money", "back"])[0]
        assert client.insight(customer_id="?", k=1)["profile"] is None


def test_what_a_caller_did_wrong_reaches_the_caller(everything: Shop) -> None:
    with everything.client() as client:
        with pytest.raises(UnknownCustomerError, match="no such customer"):
            client.profile(customer_id="?")
        with pytest.raises(RequestRefusedError, match="K is 1001; it must be from 1 to 1000"):
            client.recommend(customer_id="c0003", k=1001)
        with pytest.raises(RequestRefusedError, match="TEXT is empty"):
            client.understand("  ")
        with pytest.raises(RequestRefusedError, match="TEXT has 300 bytes"):
            client.insight(customer_id="c0003", text="x" * 300)


def test_bad_requests_among_many_fail_alone(everything: Shop) -> None:
    tiny, wrong = everything.seeds["1"], Counter[str]()

    def ask(customer: int) -> None:
        with everything.client() as client:
            for k in (3, 0, 7, 2000, 5):
                try:
                    found = client.recommend(customer_id=f"c{customer:04d}", k=k)
                    wrong["answers"] += list(found.items) != tiny.recommend(customer, k)[0]
                except RequestRefusedError as error:
                    wrong["refusals"] += f"K is {k};" not in str(error) or k in (3, 7, 5)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wrong.values()) == 0


def test_one_request_may_ask_for_several_customers(everything: Shop) -> None:
    tiny = everything.seeds["1"]
    who = np.array([[b"c0003"], [b"?"], [b"c0008"]], dtype=np.object_)
    k = np.array([[2], [4], [3]], dtype=np.int32)
    with everything.client() as client:
        answer = client.infer("recommend", {"CUSTOMER_ID": who, "K": k}, request_id="several")
    lists = [[item.decode() for item in row if item] for row in answer["ITEM_ID"]]
    assert lists == [tiny.recommend(3, 2)[0], tiny.popular(4), tiny.recommend(8, 3)[0]]
    assert answer["SCORE"][0, 2] == 0.0, "padding that JSON can hold"
    assert answer["REQUEST_ID"].ravel().tolist() == [b"several-0", b"several-1", b"several-2"]


def test_identifiers_do_not_reach_the_server_log(everything: Shop) -> None:
    with everything.client() as client:
        client.recommend(source="web", source_id="jane.doe@example.org")
        with pytest.raises(UnknownCustomerError):
            client.profile(source="web", source_id="jane.doe@example.org")
    assert "jane.doe" not in Path(everything.server.state.log_file).read_text(errors="replace")


def test_triton_lists_models_and_nothing_else(everything: Shop) -> None:
    secret = everything.server._secret()
    with triton_grpc.InferenceServerClient(everything.server.grpc_url) as client:
        index = client.get_model_repository_index(headers=secret)
    release = current_release(everything.repository)
    assert release is not None
    assert {model.name for model in index.models} == set(release.models)


def test_a_golden_that_does_not_hold_is_found(everything: Shop, tmp_path: Path) -> None:
    release = current_release(everything.repository)
    assert release is not None
    assert replay(everything.server.grpc_url, everything.repository, release) == 8
    other = TinyShop(seed=2).write(tmp_path / "models", only=("recommend",))
    (tmp_path / "repo" / "recommend").mkdir(parents=True)
    (other / "recommend").rename(tmp_path / "repo" / "recommend" / "1")
    alone = type(release)(**{**vars(release), "models": {"recommend": release.models["recommend"]}})
    with pytest.raises(GoldenError, match=r"recommend of release 1, golden request 0: ITEM_ID\[0, \d\] is"):
        replay(everything.server.grpc_url, tmp_path / "repo", alone)


class Load:
    """Asks without pause from several threads, without retries, and checks every answer."""

    def __init__(self, shop: Shop, num_threads: int = 4) -> None:
        self.shop, self.failures, self.releases = shop, list[str](), Counter[str]()
        self.enough = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(num_threads)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, first: int) -> None:
        customer = first
        who = triton_grpc.InferInput("CUSTOMER_ID", [1, 1], "BYTES")
        with triton_grpc.InferenceServerClient(self.shop.server.grpc_url) as client:
            while not self.enough.is_set():
                customer = (customer + 7) % 38
                who.set_data_from_numpy(np.array([[f"c{customer:04d}".encode()]], dtype=np.object_))
                try:
                    answer = client.infer("recommend", [who], client_timeout=HANG_SECONDS)
                except Exception as error:
                    self.failures.append(repr(error))
                    continue
                self._check(customer, answer)

    def _check(self, customer: int, answer: Any) -> None:
        release = answer.as_numpy("RELEASE")[0, 0].decode()
        self.releases[release] += 1
        tiny = self.shop.seeds.get(release) or self.shop.seeds["next"]
        ids, scores = tiny.recommend(customer, 10)
        found = [item.decode() for item in answer.as_numpy("ITEM_ID")[0]]
        if found != ids or not np.allclose(answer.as_numpy("SCORE")[0], scores, atol=1e-4):
            self.failures.append(f"release {release}, customer {customer}: an answer of no release")


def test_releases_change_under_load_without_a_failed_or_mixed_answer(shop: Shop) -> None:
    with Load(shop) as load:
        for seed in (2, 3):
            shop.seeds["next"] = TinyShop(seed=seed)
            shop.publish(seed)
        wait_until(lambda: load.releases["3"] > 0, "the last release answers")
    assert load.failures == []
    assert set(load.releases) == {"1", "2", "3"}


def test_rollback_serves_the_earlier_answers_under_a_new_number(shop: Shop) -> None:
    shop.publish(2)
    release = rollback(shop.repository, server=shop.server)
    assert (release.number, release.pins) == (3, 1)
    shop.seeds["3"] = shop.seeds["1"]
    with shop.client() as client:
        shop.assert_answers("3", client)


def test_a_model_that_does_not_load_is_refused_while_the_old_one_serves(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routers = tmp_path / "routers"
    shutil.copytree(routers_folder(), routers)
    (routers / "recommend" / "model.py").write_text("raise RuntimeError('not on this machine')")
    with Load(shop, 2) as load, monkeypatch.context() as context:
        context.setenv(ROUTERS_VARIABLE, str(routers))
        with pytest.raises(PublishError, match=r"recommend.*not on this machine.*release 1 serves"):
            shop.publish(2)
    assert load.failures == []
    assert set(load.releases) == {"1"}
    with shop.client() as client:
        shop.assert_answers("1", client)
        shop.assert_answers(shop.publish(4), client)


@pytest.mark.parametrize("other_tensors", [False, True])
def test_a_release_that_answers_otherwise_than_its_goldens_never_answers(
    shop: Shop, other_tensors: bool
) -> None:
    """Neither when the earlier release can stay loaded beside it, nor when its tensors end that one."""
    folder = TinyShop(seed=2).write(shop.models, shop.only)
    if other_tensors:
        contract = json.loads((folder / "mf_retrieval" / "contract.json").read_text())
        changed = json.dumps(contract | {"max_batch_size": 128})
        (folder / "mf_retrieval" / "contract.json").write_text(changed)
    text = (folder / "recommend" / "golden.json").read_text()
    (folder / "recommend" / "golden.json").write_text(text.replace("personal", "popular"))
    with Load(shop) as load:
        for _ in range(2):
            with pytest.raises(PublishError, match=r"REASON_CODE.*release 1 serves as before"):
                publish(folder, shop.repository, server=shop.server)
    assert load.failures == []
    assert set(load.releases) == {"1"}
    assert not shop.server.ready("recommend", 2)
    assert not shop.server.ready("mf_retrieval", 3)
    assert list(shop.repository.parent.glob(".rehearsal-*")) == []


def test_a_release_of_other_tensors_replaces_the_earlier_one(shop: Shop) -> None:
    shop.only = ("segment", "profile")
    shop.publish(2)
    widths: list[tuple[str, int]] = []
    enough = threading.Event()

    def ask() -> None:
        with shop.client() as client:  # it asks again while the routers change
            while not enough.is_set():
                found = client.profile(customer_id="c0003")
                widths.append((found.release, len(found.features)))

    asking = threading.Thread(target=ask)
    asking.start()
    number = shop.publish(3, num_features=5, num_segments=4)
    enough.set()
    asking.join()
    with shop.client() as client:
        found = client.profile(customer_id="c0003")
    assert set(widths) <= {("2", 3), (number, 5)}
    tiny = shop.seeds[number]
    assert (found.release, len(found.features)) == (number, 5)
    assert found.segment == tiny.segments[tiny.segment_of(tiny.feature[3])]["name"]
    assert not shop.server.ready("segment", int(number) - 1)


def test_a_publisher_killed_while_the_server_loads_is_recovered_from(shop: Shop) -> None:
    TinyShop(seed=2).write(shop.models, shop.only)
    code = (
        "import sys; from pathlib import Path; from shopsight.serving.repository import publish; "
        "from shopsight.serving.server import TritonServer; repo = Path(sys.argv[2]); "
        "publish(Path(sys.argv[1]), repo, server=TritonServer.attach(repo), "
        "progress=lambda line: print(line, flush=True))"
    )
    publisher = subprocess.Popen(
        [sys.executable, "-c", code, str(shop.models), str(shop.repository)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert publisher.stdout is not None
    with publisher.stdout as lines:
        assert any("loading recommend" in line for line in lines)
        os.kill(publisher.pid, signal.SIGKILL)
    publisher.wait()
    recover(shop.repository, shop.server)
    with shop.client() as client:
        shop.assert_answers("1", client)
        shop.assert_answers(shop.publish(3), client)


def test_a_server_that_starts_later_serves_what_was_published_without_one(tmp_path: Path) -> None:
    tiny = TinyShop(seed=6)
    release = publish(tiny.write(tmp_path / "models", SLICE), tmp_path / "repo")
    with TritonServer.start(tmp_path / "repo") as server:
        assert load_release(tmp_path / "repo", release, server) == 3
        with ShopsightClient(server.grpc_url, deadline_seconds=HANG_SECONDS) as client:
            assert list(client.recommend(customer_id="c0003").items) == tiny.recommend(3, 10)[0]


@pytest.mark.parametrize("name", ["my shop $(touch planted)", "магазин 商店;'é"])
def test_a_path_may_hold_any_characters_that_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of the repository and of the cache; Triton itself passes paths to a shell, unquoted."""
    (tmp_path / f"cache {name}").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache {name}"))
    tiny, repository = TinyShop(seed=6), tmp_path / name / "model repository"
    tiny.write(tmp_path / "models", SLICE)
    release = publish(tmp_path / "models", repository)
    with TritonServer.start(repository) as server:
        assert load_release(repository, release, server) == 3
        assert publish(tmp_path / "models", repository, server=server).number == 2
        with ShopsightClient(server.grpc_url, deadline_seconds=30) as client:
            assert list(client.recommend(customer_id="c0003").items) == tiny.recommend(3, 10)[0]
        assert not Path(server.state.runtime_folder, "python", "planted").exists()


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "link"])
def test_a_link_or_a_line_break_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    models = TinyShop(seed=6).write(tmp_path / "models", SLICE)
    with pytest.raises(PathRefusedError, match=r"symbolic link|line break"):
        publish(models, tmp_path / name)
    with pytest.raises(PathRefusedError, match=r"symbolic link|line break"):
        TritonServer.start(tmp_path / name)
    assert list((tmp_path / "real").iterdir()) == []
