"""Latency and throughput of the four endpoints through a real Triton, at concurrency 1 and 16.

    python -m benchmarks.serving_load REPOSITORY [--json serving.json]

Asks the running server of the repository, or starts one for the time of the run. Requests are the golden
ones of the current release, in turn. Client and server share the machine: its cores are part of the case.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio

from shopsight.serving.client_transport import grpc_inputs
from shopsight.serving.contract import read_goldens
from shopsight.serving.golden import to_array
from shopsight.serving.pseudonym import key_path
from shopsight.serving.release import Release, ReleaseError, current_release
from shopsight.serving.repository import load_release
from shopsight.serving.server import ServerNotRunningError, TritonServer

ENDPOINTS = ("recommend", "profile", "understand", "insight")
CONCURRENCY = (1, 16)
NUM_ROUNDS = 5
_WARMUP_SECONDS = 0.5


def measure(
    repository: Path, round_seconds: float = 1.0, concurrency: Sequence[int] = CONCURRENCY
) -> list[dict[str, Any]]:
    """Return one benchmark row per endpoint, concurrency and metric (p50 and p99 in ms, requests/s).

    `ours` is the median of five rounds of `round_seconds`, `p20` and `p80` their spread. Raises ReleaseError
    when nothing is published, and InferenceServerException when a request fails: a failure is no figure.
    """
    release = current_release(repository)
    if release is None:
        raise ReleaseError(f"{repository} holds no release; run 'shopsight publish' first")
    with _running(repository, release) as server:
        about = _about(server)
        return [
            row | about
            for model in ENDPOINTS
            if model in release.models
            for clients in concurrency
            for row in _case(server, repository, release, model, clients, round_seconds)
        ]


@contextmanager
def _running(repository: Path, release: Release) -> Iterator[TritonServer]:
    try:
        yield TritonServer.attach(repository)
    except ServerNotRunningError:
        with TritonServer.start(repository, key_file=key_path()) as server:
            load_release(repository, release, server)
            yield server


def _case(
    server: TritonServer, repository: Path, release: Release, model: str, clients: int, seconds: float
) -> list[dict[str, Any]]:
    goldens = read_goldens(release.folder(repository, model))
    requests = [grpc_inputs({t.name: to_array(t) for t in golden.request}) for golden in goldens]
    rounds = asyncio.run(_rounds(server.grpc_url, model, requests, clients, seconds))
    figures = {
        "latency_p50": ("ms", [float(np.percentile(latency, 50)) for latency, _ in rounds]),
        "latency_p99": ("ms", [float(np.percentile(latency, 99)) for latency, _ in rounds]),
        "throughput": ("requests/s", [len(latency) / elapsed for latency, elapsed in rounds]),
    }
    return [
        {
            "bench": "serving",
            "case": f"{model}, concurrency {clients}",
            "peer": None,
            "metric": metric,
            "ours": round(float(np.median(values)), 3),
            "theirs": None,
            "ratio": None,
            "p20": round(float(np.percentile(values, 20)), 3),
            "p80": round(float(np.percentile(values, 80)), 3),
            "unit": unit,
        }
        for metric, (unit, values) in figures.items()
    ]


async def _rounds(
    url: str, model: str, requests: Sequence[Any], clients: int, seconds: float
) -> list[tuple[list[float], float]]:
    async with triton_aio.InferenceServerClient(url) as client:
        await _round(client, model, requests, clients, _WARMUP_SECONDS)
        return [await _round(client, model, requests, clients, seconds) for _ in range(NUM_ROUNDS)]


async def _round(
    client: Any, model: str, requests: Sequence[Any], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Ask without pause from `clients` loops; return the latencies in ms and the seconds that passed."""
    latency: list[float] = []
    turn = itertools.cycle(requests)
    begin = time.perf_counter()

    async def ask() -> None:
        while (sent := time.perf_counter()) - begin < seconds:
            await client.infer(model, next(turn), client_timeout=60)
            latency.append(1000 * (time.perf_counter() - sent))

    await asyncio.gather(*(ask() for _ in range(clients)))
    return latency, time.perf_counter() - begin


def _about(server: TritonServer) -> dict[str, Any]:
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        triton = client.get_server_metadata().version
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "device": f"cpu: {os.cpu_count()} cores, {platform.machine()}",
        "versions": {
            "triton": triton,
            "tritonclient": version("tritonclient"),
            "python": platform.python_version(),
        },
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.serving_load REPOSITORY",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line per row, and write the rows as JSON when asked."""
    parser = argparse.ArgumentParser(description="Latency and throughput of the endpoints.")
    parser.add_argument("repository", type=Path, help="a model repository that holds a release")
    parser.add_argument("--round-seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path, help="where the rows go")
    given = parser.parse_args(arguments)
    rows = measure(given.repository, given.round_seconds)
    for row in rows:
        spread = f"[{row['p20']:.2f}, {row['p80']:.2f}]"
        print(f"{row['case']:<28} {row['metric']:<12} {row['ours']:>10.2f} {row['unit']:<10} {spread}")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
