"""The images' recipe, read as text since building needs a Docker daemon, and the container's command."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from shopsight.serving.client import ShopsightClient
from shopsight.serving.container import EVERY_ADDRESS, replica
from shopsight.serving.processes import stubs
from shopsight.serving.release import Pointer, Release, ReleasedModel, ReleaseError, write_release
from shopsight.serving.repository import publish
from shopsight.serving.server_process import Ports, server_arguments
from shopsight.serving.supervisor import Supervisor
from shopsight.serving.triton_environment import TritonMissingError
from tests.serving.tiny_models import TinyShop

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Instructions in order, with continued lines joined and comments dropped."""
    lines = (line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (ln.partition(" ") for ln in joined.splitlines() if ln)]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found[rest.split(" AS ")[1]] = []
        found[list(found)[-1]].append((word, rest))
    return found


def test_every_stage_is_named_and_its_base_pinned() -> None:
    assert list(stages()) == ["train-build", "train", "serve"]
    for stage in stages().values():
        image = stage[0][1].split(" AS ")[0]
        assert re.search(r":\d+\.\d+[\w.-]*$", image), f"{image} is not pinned by version"


def test_triton_is_no_older_than_its_fixed_vulnerabilities() -> None:
    found = re.search(r"tritonserver:(\d+)\.(\d+)-py3", DOCKERFILE)
    assert found
    assert (int(found[1]), int(found[2])) >= (26, 11)


@pytest.mark.parametrize("name", ["train", "serve"])
def test_older_drivers_get_the_compatibility_libraries(name: str) -> None:
    (entrypoint,) = [rest for word, rest in stages()[name] if word == "ENTRYPOINT"]
    assert entrypoint.startswith('["/opt/nvidia/nvidia_entrypoint.sh", ')


@pytest.mark.parametrize("name", ["train", "serve"])
def test_images_run_as_nobody_special_and_watch_their_health(name: str) -> None:
    words = [word for word, _ in stages()[name]]
    users = [rest for word, rest in stages()[name] if word == "USER"]
    assert users == ["10001:10001"]
    assert "HEALTHCHECK" in words
    after_user = words[words.index("USER") :]
    assert "RUN" not in after_user, "installed as the user who serves, who could then change it"


def test_everything_copied_exists_and_reaches_the_build() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for word, rest in instructions():
        if word != "COPY" or "--from=" in rest:
            continue
        *sources, _ = (part for part in rest.split() if not part.startswith("--"))
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed, f"{source} is kept out by .dockerignore"


def test_nothing_secret_is_baked_in() -> None:
    for word, rest in instructions():
        if word in ("ENV", "ARG"):
            assert not re.search(r"(PASSWORD|TOKEN|SECRET)\w*=", rest, re.IGNORECASE), rest
    assert "pseudonym_key" not in DOCKERFILE


def test_the_gpu_pins_agree_with_the_projects_extras() -> None:
    """Exact pins of pyproject.toml must be the very pins of the image."""
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints-gpu.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    )
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    # `serve` is the small environment beside Triton, `cpu` what a machine without a GPU has instead.
    train_extras = re.sub(r"\n(serve|dev|cpu) = \[.*?\n\]", "", project, flags=re.DOTALL)
    exact = re.findall(r'"([\w-]+)(?:\[[\w,]+\])?==([\w.]+)"', train_extras)
    assert exact
    for name, version in exact:
        assert pins[name] == version


@pytest.fixture
def native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    binary = tmp_path / "bin" / "tritonserver"
    binary.parent.mkdir()
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))
    monkeypatch.delenv("SHOPSIGHT_TRITON_ENV", raising=False)
    return binary


@pytest.fixture
def released(tmp_path: Path) -> Path:
    repository = tmp_path / "models"
    repository.mkdir()
    member = ReleasedModel(kind="onnx", calls=(), versions=(3,), files=())
    router = ReleasedModel(kind="router", calls=("mf_retrieval",), versions=(3,), files=())
    models = {"recommend": router, "mf_retrieval": member}
    digest = write_release(repository, Release(3, "2026-01-01T00:00:00+00:00", None, models))
    Pointer(current=3, last_number=3, manifests={"3": digest}).write(repository)
    return repository


def test_the_container_faces_the_network_with_its_control_closed(native: Path, released: Path) -> None:
    supervisor = replica(released)
    assert native.exists()
    assert supervisor.ports == (8000, 8001, 8002)
    arguments = server_arguments(released, Ports(*supervisor.ports), "id", "secret", EVERY_ADDRESS)
    assert "--model-control-mode=explicit" in arguments
    assert {a for a in arguments if "-address=" in a} == {
        "--http-address=0.0.0.0",
        "--grpc-address=0.0.0.0",
        "--metrics-address=0.0.0.0",
    }
    for flag in ("--http-restricted-api=", "--grpc-restricted-protocol="):
        (restricted,) = (a for a in arguments if a.startswith(flag))
        assert "model-repository" in restricted


@pytest.mark.triton
def test_a_replica_is_mended_and_writes_nothing_into_its_repository(tmp_path: Path) -> None:
    """On loopback, with the server at hand: a container of ours starts the same supervisor."""
    repository = tmp_path / "repository"
    publish(TinyShop(seed=1).write(tmp_path / "models", ("mf_retrieval", "recommend")), repository)
    before = sorted(p.relative_to(repository) for p in repository.rglob("*"))
    supervisor = Supervisor(repository, (0, 0, 0), lambda _: None, replica_address="127.0.0.1")
    server = supervisor.start()
    try:
        for model in ("mf_retrieval", "recommend"):
            (stub,) = (s for s in stubs(server.state.server_id) if s.model == model)
            os.kill(stub.pid, signal.SIGKILL)
            supervisor.mend()
            (mended,) = (s for s in stubs(server.state.server_id) if s.model == model)
            assert mended.pid != stub.pid
        with ShopsightClient(server.grpc_url, deadline_seconds=30) as client:
            assert client.recommend(customer_id="c0003").release == "1"
        assert sorted(p.relative_to(repository) for p in repository.rglob("*")) == before
    finally:
        supervisor.server.stop()


def test_the_server_that_pip_installs_is_kept_off_the_network(
    native: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native.unlink()
    environment = released.parent / "environment"
    binary = environment / "lib/python3.11/site-packages/pytriton/tritonserver/bin/tritonserver"
    binary.parent.mkdir(parents=True)
    binary.touch()
    monkeypatch.setenv("SHOPSIGHT_TRITON_ENV", str(environment))
    with pytest.raises(TritonMissingError, match="must not face a network"):
        replica(released)


def test_a_repository_without_a_release_is_named(native: Path, tmp_path: Path) -> None:
    assert native.exists()
    with pytest.raises(ReleaseError, match="no release"):
        replica(tmp_path)
