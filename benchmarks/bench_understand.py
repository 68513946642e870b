"""Messages a second and latency of `understand` through Triton, beside its own graph and a FastAPI service.

Trains on banking77, publishes, and asks over loopback with the client on the same two cores. Beside: the same
graph called in the benchmark's process (its best), and a fine-tuned MiniLM-L6 behind FastAPI and transformers
(minilm_peer.py): its python and the folder of its trained weights are named by $SHOPSIGHT_MINILM_PYTHON and
$SHOPSIGHT_MINILM_MODEL, without which it is left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnxruntime
import polars as pl
import tritonclient.grpc.aio as triton_aio
from tokenizers import Tokenizer

from benchmarks.runner import Report
from benchmarks.text_sets import CONFIG, SETS
from shopsight.serving.client_transport import grpc_inputs
from shopsight.serving.contract import ModelContract
from shopsight.serving.repository import publish
from shopsight.serving.routing.texts import read_texts
from shopsight.serving.routing.understand import TOKENIZER_FILE
from shopsight.serving.server import TritonServer
from shopsight.training import language
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import SCHEMAS, write_tables
from shopsight.training.language.corpus import SPLITS, Corpus

PYTHON, MODEL = "SHOPSIGHT_MINILM_PYTHON", "SHOPSIGHT_MINILM_MODEL"
EPOCHS, ROUNDS, SECONDS, MANY = 8, 5, 3.0, 64
Ask = Callable[[str], Awaitable[Any]]


def run(report: Report) -> None:
    """Train, publish, then alternate the ways of asking."""
    (case,) = (one for one in SETS if one.name == "banking77")
    if obstacle := case.obstacle():
        report.say(f"skipped: {obstacle}")
        return
    corpus = next(case.read()).corpus
    config = replace(CONFIG, pretrain_epochs=0, epochs=EPOCHS, least_steps=0)
    with tempfile.TemporaryDirectory(prefix="bench-understand-") as folder:
        workspace = Workspace(Path(folder) / "workspace")
        _write_tables(workspace, corpus)
        language.train(workspace, config, report.say)
        accuracy = language.evaluate(workspace, config)["intent"]["accuracy"]["value"]
        language.export(workspace, config)
        texts = corpus.texts_of(corpus.rows("test", "intent"))
        workspace.repository.mkdir(parents=True)
        with TritonServer.start(workspace.repository) as server, _peer() as peer:
            publish(workspace.models, workspace.repository, server=server, progress=report.say)
            _measure(report, workspace, texts, server.grpc_url, peer, accuracy)


def _measure(
    report: Report, workspace: Workspace, texts: list[str], url: str, peer: str | None, accuracy: float
) -> None:
    graph = _Graph(workspace)
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    for number in range(ROUNDS + 1):  # the first warms up
        single, batched = graph.latency(texts), graph.throughput(texts)
        ours = [asyncio.run(_triton(url, texts, clients)) for clients in (1, MANY)]
        theirs = [asyncio.run(_http(peer, texts, clients)) for clients in (1, MANY)] if peer else []
        if number:
            note("graph p50", single)
            note("graph rate", batched)
            for side, found in (("ours", ours), ("peer", theirs)):
                for clients, (latency, rate) in zip((1, MANY), found, strict=False):
                    note(f"{side} p50 {clients}", latency)
                    note(f"{side} rate {clients}", rate)
            report.say(f"round {number}: " + ", ".join(f"{k} {v[-1]:.2f}" for k, v in figures.items()))
    about = {"accuracy": accuracy, "graph_milliseconds": figures["graph p50"], "rounds": ROUNDS}
    report.add_times(
        "p50 at concurrency 1", "the same graph in-process, batch 1", figures["ours p50 1"],
        figures["graph p50"], "milliseconds", "ms", **about,
    )  # fmt: skip
    _rates(
        report,
        "the same graph in-process, batches of 64",
        figures["ours rate 64"],
        figures["graph rate"],
        about,
    )
    if peer:
        model = Path(os.environ[MODEL])
        about |= {"peer_accuracy": json.loads((model / "about.json").read_text(encoding="utf-8"))["test"]}
        name = "FastAPI, transformers, fine-tuned MiniLM-L6"
        _rates(report, name, figures["ours rate 64"], figures["peer rate 64"], about)
        report.add_times(
            "p50 at concurrency 1",
            name,
            figures["ours p50 1"],
            figures["peer p50 1"],
            "milliseconds",
            "ms",
            **about,
        )


def _rates(report: Report, peer: str, ours: list[float], theirs: list[float], about: dict[str, Any]) -> None:
    times = [[1e3 / rate for rate in rates] for rates in (ours, theirs)]
    rates = {"messages_a_second": float(np.median(ours)), "theirs_a_second": float(np.median(theirs))}
    report.add_times(
        f"throughput at concurrency {MANY}", peer, *times, "milliseconds a message", "ms", **about, **rates
    )


class _Graph:
    """The encoder as Triton runs it, called here."""

    def __init__(self, workspace: Workspace) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        model = workspace.models / "intent_encoder" / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        folder = workspace.models / "understand"
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._buckets = ModelContract.read(folder).preprocessing["buckets"]

    def latency(self, texts: list[str]) -> float:
        """p50 in ms of one message at a time, already read."""
        read = read_texts(self._tokenizer, texts[:500], self._buckets[-1])
        taken = []
        for length, chosen in read.by_length(self._buckets).items():
            for one in chosen:
                inputs = read.padded([one], length)
                began = time.perf_counter()
                self._session.run(None, inputs)
                taken.append(1e3 * (time.perf_counter() - began))
        return float(np.median(taken))

    def throughput(self, texts: list[str]) -> float:
        """Messages a second in batches of 64, already read and padded as requests are."""
        read = read_texts(self._tokenizer, texts, self._buckets[-1])
        batches = [
            read.padded(chosen[at : at + MANY], length)
            for length, chosen in read.by_length(self._buckets).items()
            for at in range(0, len(chosen), MANY)
        ]
        began = time.perf_counter()
        for inputs in batches:
            self._session.run(None, inputs)
        return len(texts) / (time.perf_counter() - began)


async def _triton(url: str, texts: list[str], clients: int) -> tuple[float, float]:
    async with triton_aio.InferenceServerClient(url) as client:

        async def ask(text: str) -> None:
            inputs = grpc_inputs({"TEXT": np.array([[text.encode()]], dtype=np.object_)})
            await client.infer("understand", inputs)

        return await _round(ask, texts, clients)


async def _http(url: str, texts: list[str], clients: int) -> tuple[float, float]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients)) as session:

        async def ask(text: str) -> None:
            async with session.post(f"{url}/understand", json={"text": text}) as answer:
                answer.raise_for_status()
                await answer.read()

        return await _round(ask, texts, clients)


async def _round(ask: Ask, texts: list[str], clients: int) -> tuple[float, float]:
    """p50 in ms and messages a second of loops that ask without pause."""
    turn, taken, began = cycle(texts), [], time.perf_counter()

    async def loop() -> None:
        while (sent := time.perf_counter()) - began < SECONDS:
            await ask(next(turn))
            taken.append(1e3 * (time.perf_counter() - sent))

    await asyncio.gather(*(loop() for _ in range(clients)))
    return float(np.median(taken)), len(taken) / (time.perf_counter() - began)


@contextmanager
def _peer() -> Iterator[str | None]:
    """The address of the other service while it runs; None where there is none."""
    python, model = os.environ.get(PYTHON), os.environ.get(MODEL)
    if not python or not model:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("minilm_peer.py")
    service = subprocess.Popen([python, str(script), "serve", model, str(port)])
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/docs", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        service.terminate()
        service.wait()


def _write_tables(workspace: Workspace, corpus: Corpus) -> None:
    names, label = corpus.classes["intent"], corpus.label["intent"]
    ids = [f"m{i}" for i in range(len(corpus.texts))]
    table = pl.DataFrame({"message_id": ids, "text": corpus.texts})
    empty = pl.DataFrame(schema=SCHEMAS["messages"])
    rows = [
        (ids[i], "intent", names[label[i]], SPLITS[corpus.split[i]]) for i in range(len(ids)) if label[i] >= 0
    ]
    write_tables(
        workspace.tables,
        {
            "messages": pl.concat(
                [empty, table.cast(dict.fromkeys(table.columns, pl.String))], how="diagonal"
            ),
            "labels": pl.DataFrame(rows, schema=SCHEMAS["labels"], orient="row"),
        },
    )
