"""The serving status: the current release, the server, and which models of the release answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shopsight.serving.health import Health
from shopsight.serving.release import Release, current_release
from shopsight.serving.server import ServerNotRunningError, TritonServer
from shopsight.serving.triton_environment import TritonMissingError, find_triton


def status(repository: Path) -> dict[str, Any]:
    """Return JSON-ready data; `server` is None if none runs, `release` is None if nothing is published."""
    release = current_release(repository)
    try:
        server: TritonServer | None = TritonServer.attach(repository)
    except ServerNotRunningError:
        server = None
    return {
        "repository": str(repository),
        "release": release.number if release else None,
        "created_at": release.created_at if release else None,
        "triton": _triton(),
        "server": None if server is None else _server(server),
        "models": _models(repository, release, server) if release else {},
    }


def _models(repository: Path, release: Release, server: TritonServer | None) -> dict[str, Any]:
    """Send each model its first golden request; `problem` says why it does not answer."""
    told: dict[str, dict[str, Any]] = {
        name: {"kind": model.kind, "ready": False, "problem": "no server runs"}
        for name, model in sorted(release.models.items())
    }
    if server is not None:
        health = Health(server, repository, release, runs_members_in_stubs=not find_triton().is_native)
        for name, about in told.items():
            about["problem"] = health.problem(name)
            about["ready"] = about["problem"] is None
    return told


def _server(server: TritonServer) -> dict[str, Any]:
    return {
        "pid": server.state.pid,
        "supervised": server.state.is_supervised,
        "http": server.http_url,
        "grpc": server.grpc_url,
        "metrics": server.metrics_url,
        "started_at": server.state.started_at,
        "log_file": server.state.log_file,
    }


def _triton() -> str:
    try:
        found = find_triton()
    except TritonMissingError as error:
        return f"none ({error})"
    backend = "its own onnxruntime backend" if found.is_native else "the python-based onnxruntime backend"
    return f"{found.binary.name} with {backend}"
