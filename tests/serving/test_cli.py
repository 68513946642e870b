"""The verbs that publish and serve, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from tests.serving.tiny_models import KEY, TinyShop
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
VERBS = ("publish", "rollback", "releases", "serve", "stop", "status", "ask")
# What `shopsight` does with an error of ours, without the training side that it also composes.
MAIN = """
import sys
from rich.console import Console
from shopsight.serving.cli import app
try:
    app(sys.argv[1:], standalone_mode=True)
except (ValueError, RuntimeError, OSError) as error:
    assert type(error).__module__.split(".")[0] in {"shopsight", "builtins"}, type(error)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
assert not {"torch", "polars", "ray", "sklearn", "numba"} & set(sys.modules)
"""


def shopsight(
    *arguments: object, key: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", KEY_FILE_VARIABLE: str(key or "/nonexistent/key.json")}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip


def said(*arguments: object, **options: Any) -> Any:
    done = shopsight(*arguments, "--json", **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: object, **options: Any) -> str:
    done = shopsight(*arguments, **options)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    TinyShop(seed=1).write(tmp_path / "models", only=("mf_retrieval", "recommend"))
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = shopsight(verb, "--help")
    assert done.returncode == 0
    assert f"Example: shopsight {verb}" in done.stdout


def test_publish_releases_and_rollback_without_a_server(workspace: Path) -> None:
    first = said("publish", "--workspace", workspace)
    assert (first["release"]["number"], first["served"]) == (1, False)
    done = shopsight("publish", "--workspace", workspace)
    assert done.returncode == 0, done.stderr
    assert "no server runs" in done.stdout
    assert "release 2 of mf_retrieval, recommend is current" in done.stdout
    assert "shopsight serve --repository" in done.stdout
    assert said("rollback", "--workspace", workspace)["release"]["pins"] == 1
    listed = said("releases", "--repository", workspace / "model_repository")
    assert [release["number"] for release in listed["releases"]] == [3, 2]
    table = shopsight("releases", "--workspace", workspace).stdout
    assert "the files of release 1 again" in table
    assert said("status", "--workspace", workspace)["release"] == 3


def test_what_cannot_be_done_is_told_in_one_line(workspace: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert "holds no exported model" in refused("publish", "--workspace", nothing)
    assert "no earlier release" in refused("rollback", "--workspace", workspace)
    assert "run 'shopsight publish' first" in refused("serve", "--workspace", workspace)
    assert "no server runs for" in refused("ask", "--customer", "c1", "--workspace", workspace)
    assert "write model.metric=minimum" in refused("publish", "--workspace", workspace, "--require", "good")
    threshold = "mf_retrieval.quality=0.9"
    told = refused("publish", "--workspace", workspace, "--require", threshold)
    assert "mf_retrieval.quality is 0.4, required is 0.9" in told
    assert len(told.strip().splitlines()) == 1
    assert "nothing is asked" in refused("ask", "--workspace", workspace)
    assert "give both" in refused("ask", "--source", "web", "--workspace", workspace)
    both = ("--customer", "c", "--source", "web", "--source-id", "w3")
    assert "not both" in refused("ask", *both, "--workspace", workspace)


@pytest.mark.triton
def test_serve_status_ask_publish_and_stop(tmp_path: Path) -> None:
    tiny, key = TinyShop(seed=1), tmp_path / "key.json"
    key.write_text(json.dumps({"key_id": KEY.key_id, "secret": KEY.secret.hex()}))
    tiny.write(tmp_path / "models")
    where = ("--workspace", tmp_path)
    said("publish", *where)
    ports = [f"--{kind}-port=0" for kind in ("http", "grpc", "metrics")]
    started = said("serve", *where, "--detach", *ports, key=key)
    try:
        assert started["release"] == 1
        assert all(model["ready"] for model in started["models"].values())
        message = ("--message", "where is my parcel")
        insight = said("ask", *where, "--source", "web", "--source-id", "-", *message, "--k", 3, stdin="w3\n")
        assert [r["item_id"] for r in insight["recommendations"]] == tiny.recommend(3, 3)[0]
        page = shopsight("ask", *where, "--customer", "c0003", *message, "--deadline", 60)
        assert page.returncode == 0, page.stderr
        intent, confidence, sentiment = tiny.understand(["where", "is", "my", "parcel"])
        assert f"{intent} ({confidence:.0%} sure), {sentiment}" in page.stdout
        assert tiny.segments[tiny.segment_of(tiny.feature[3])]["name"] in page.stdout
        assert all(item in page.stdout for item in tiny.recommend(3, 10)[0])
        stranger = shopsight("ask", *where, "--customer", "nobody")
        assert "does not know the customer" in stranger.stdout
        assert "process" in shopsight("status", *where).stdout
        assert "already serves" in refused("serve", *where, *ports)
    finally:
        assert shopsight("stop", *where).returncode == 0
    assert said("status", *where)["server"] is None


@pytest.mark.triton
def test_serve_in_the_foreground_ends_with_its_server(workspace: Path) -> None:
    said("publish", "--workspace", workspace)
    ports = [f"--{kind}-port=0" for kind in ("http", "grpc", "metrics")]
    serving = subprocess.Popen(
        [sys.executable, "-u", "-c", MAIN, "serve", "--workspace", str(workspace), *ports],
        cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert serving.stdout is not None
    with serving.stdout as lines:
        assert any(line.startswith("log: ") for line in lines)
        assert said("status", "--workspace", workspace)["models"]["recommend"]["ready"]
        serving.terminate()
        assert serving.wait(timeout=HANG_SECONDS) == 0
    assert said("status", "--workspace", workspace)["server"] is None
