"""The command line as a user runs it, and one small shop that went the whole way for the folder's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE
from shopsight.training.artifacts.workspace import Workspace
from tests.waiting import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

_FROM_CHECKOUT = {"PYTHONPATH": str(ROOT)}

# Small models learn in seconds; what is tested is the way, not how good they become.
QUICK = [
    "language.epochs=3", "language.least_steps=0", "recommend.factors=16", "recommend.iterations=4",
    "recommend.num_bootstraps=50", "recommend.suppression.days=0",  # three epochs see complaints everywhere
    "recommend.unobserved_weights=[0.1]", "recommend.regularizations=[0.03]",
    "profiles.num_segments=4", "profiles.num_bootstraps=2", "value.num_bootstraps=20",
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """Runs `shopsight` in a folder with a key of its own."""

    folder: Path
    key_file: Path

    def __call__(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "shopsight", *map(str, arguments)],
            cwd=self.folder,
            env=os.environ | {KEY_FILE_VARIABLE: str(self.key_file), "COLUMNS": "200"} | _FROM_CHECKOUT,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done

    def json(self, *arguments: str | Path) -> Any:
        """Run with --json and return what was printed."""
        return json.loads(self(*arguments, "--json").stdout)

    def learn(self, workspace: Path, settings: list[str]) -> None:
        """Train, evaluate, export and publish everything that the tables allow."""
        put = [part for setting in settings for part in ("--set", setting)]
        for verb in ("train", "evaluate", "export"):
            self(verb, "all", "--workspace", workspace, *put)
        self("publish", "--workspace", workspace)

    def serve(self, workspace: Path) -> None:
        """Start Triton on free ports and leave it running."""
        self(
            "serve", "--workspace", workspace, "--detach", "--http-port", "0", "--grpc-port", "0",
            "--metrics-port", "0",
        )  # fmt: skip


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line with a key made for this session."""
    folder = tmp_path_factory.mktemp("user")
    made = Command(folder, folder / "configuration" / "key.json")
    made("key", "create")
    return made


@dataclass(frozen=True)
class ServedShop:
    """A workspace whose release a running Triton serves, with the raw files it came from."""

    raw: Path
    truth: Path
    workspace: Workspace
    command: Command


@pytest.fixture(scope="package")
def served_shop(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedShop]:
    """A synthetic shop of 600 people, ingested, learned, exported, published and served."""
    folder = tmp_path_factory.mktemp("shop")
    workspace = folder / "workspace"
    command("data", "make", "--customers", "600", "--out", folder)
    command("ingest", folder / "raw" / "sources.toml", "--workspace", workspace)
    command.learn(workspace, QUICK)
    command.serve(workspace)
    yield ServedShop(folder / "raw", folder / "truth", Workspace(workspace), command)
    command("stop", "--workspace", workspace)
