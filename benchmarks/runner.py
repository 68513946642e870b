"""Interleaved timing, rows, plots: what every benchmark of the suite shares.

shopsight bench als [--out FILE]      or      python -m benchmarks.runner als [FILE]
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = tuple(sorted(path.stem[6:] for path in Path(__file__).parent.glob("bench_*.py")))
RESULTS = Path(__file__).parent / "results"
_LIBRARIES = (
    "numpy", "scipy", "numba", "polars", "pandas", "implicit", "torch", "faiss-cpu", "tritonclient",
    "onnxruntime", "cupy-cuda13x", "rmm-cu13", "ray", "torchrec", "fbgemm-gpu-cpu",
)  # fmt: skip
REPEATS = 7
_SETTLING_SECONDS = 0.1  # idle threads of OpenMP and OpenBLAS spin for a while, on the next one's time


class UnknownBenchmark(ValueError):  # noqa: N818 - reads as what happened
    """No benchmark has this name."""


@dataclass(frozen=True)
class Row:
    """One comparison; `ratio` above 1 is better for us, p20 and p80 are of the ratio over the rounds."""

    bench: str
    case: str
    peer: str
    metric: str
    ours: float
    theirs: float
    ratio: float
    p20: float
    p80: float
    unit: str
    device: str
    versions: dict[str, str]
    commit: str
    date: str
    command: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """Collects the rows of one benchmark and what is said while it runs.

    With a `path`, the rows so far lie beside it as `<name>.partial`: a benchmark that is stopped leaves them.
    """

    bench: str
    command: str
    path: Path | None = None
    rows: list[Row] = field(default_factory=list)

    @staticmethod
    def partial(path: Path) -> Path:
        """Where the rows so far are kept."""
        return path.with_name(path.name + ".partial")

    def as_json(self) -> str:
        """The rows as they go to the file."""
        return json.dumps([asdict(row) for row in self.rows], indent=1) + "\n"

    def say(self, line: str) -> None:
        """One line of progress."""
        print(line, flush=True)

    def add_times(
        self,
        case: str,
        peer: str,
        ours: list[float],
        theirs: list[float],
        metric: str = "seconds",
        unit: str = "s",
        **details: Any,
    ) -> None:
        """A row of two lists of durations taken in the same rounds: medians, and the ratio's spread."""
        ratios = np.array(theirs) / np.array(ours)
        spread = np.percentile(ratios, [20, 50, 80])
        self._add(case, peer, metric, float(np.median(ours)), float(np.median(theirs)), spread, unit, details)

    def add_value(
        self, case: str, peer: str, metric: str, ours: float, theirs: float, unit: str, **details: Any
    ) -> None:
        """A row of two figures of which more is better, or that only stand beside each other."""
        ratio = ours / theirs if theirs else float("nan")
        self._add(case, peer, metric, ours, theirs, np.array([ratio] * 3), unit, details)

    def _add(
        self,
        case: str,
        peer: str,
        metric: str,
        ours: float,
        theirs: float,
        spread: np.ndarray[Any, Any],
        unit: str,
        details: dict[str, Any],
    ) -> None:
        low, middle, high = (float(x) for x in spread)
        details = {**details, "load_average": round(os.getloadavg()[0], 2)}
        row = Row(
            self.bench,
            case,
            peer,
            metric,
            ours,
            theirs,
            middle,
            low,
            high,
            unit,
            device_name(),
            versions(),
            commit(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            self.command,
            details,
        )
        self.rows.append(row)
        if self.path is not None:
            self.partial(self.path).write_text(self.as_json(), encoding="utf-8")
        self.say(
            f"{case} | {peer} | {metric}: ours {ours:.4g} {unit}, theirs {theirs:.4g}, "
            f"ratio {middle:.2f} ({low:.2f} to {high:.2f})"
        )


def interleave(
    variants: dict[str, Callable[[], Any]],
    repeats: int = REPEATS,
    budget_seconds: float = 150.0,
    wait: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each variant, one of each per round, so that a change of the machine meets all alike.

    The first round warms up and is not counted. At least three rounds are taken; beyond them, none that
    would begin after the budget is spent. `wait` returns when what a variant started on a device is done.
    """
    wait = wait or _nothing
    for run in variants.values():
        run()
    wait()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    began = time.perf_counter()
    for number in range(repeats):
        if number >= 3 and time.perf_counter() - began > budget_seconds:
            break
        for name, run in variants.items():
            time.sleep(_SETTLING_SECONDS)
            start = time.perf_counter()
            run()
            wait()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _nothing() -> None:
    """The CPU is done when the call returns."""


def run_benchmark(name: str, json_path: Path | None = None) -> list[dict[str, Any]]:
    """Run one benchmark, print its table, write rows and plot; returns the rows.

    They go to `json_path`, or else to results/<device>/<name>.json with a plot beside. Raises
    UnknownBenchmark for a name that is none.
    """
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name, BENCHMARKS, n=1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise UnknownBenchmark(f"no benchmark '{name}'; {meant}there are: {', '.join(BENCHMARKS)}")
    path = json_path or RESULTS / device_name(slug=True) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = Report(name, f"shopsight bench {name}", path)
    report.say(f"{device_name()}, load average {os.getloadavg()[0]:.2f}")
    importlib.import_module(f"benchmarks.bench_{name}").run(report)
    rows = [asdict(row) for row in report.rows]
    report.partial(path).write_text(report.as_json(), encoding="utf-8")
    report.partial(path).replace(path)
    from benchmarks.plots import plot_ratios

    plot_ratios(rows, path.with_suffix(".png"))
    report.say(f"{len(rows)} rows in {path}")
    return rows


def device_name(slug: bool = False) -> str:
    """The GPU's name where there is one, else the processor's with its number of usable cores."""
    from shopsight.kernels.backend import resolve

    backend = resolve()
    name = backend.description if backend.name == "cuda" else f"{_processor()}, {backend.num_threads} threads"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") if slug else name


def versions() -> dict[str, str]:
    """What the figures were made with."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit, with a plus where files differ from it; SHOPSIGHT_COMMIT where there is no git."""
    root = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "--", "../kernels", "."],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SHOPSIGHT_COMMIT", "unknown")
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def described() -> dict[str, str]:
    """Every benchmark by name, with the first line of its file's docstring; imports none of them."""
    files = {name: Path(__file__).parent / f"bench_{name}.py" for name in BENCHMARKS}
    texts = {name: ast.get_docstring(ast.parse(path.read_text("utf-8"))) for name, path in files.items()}
    return {name: (text or "").partition("\n")[0] for name, text in texts.items()}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(f"{name:<12} {text}" for name, text in described().items()))
    else:
        try:
            run_benchmark(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
        except UnknownBenchmark as error:
            sys.exit(f"error: {error}")
