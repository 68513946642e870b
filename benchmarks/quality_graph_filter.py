"""Quality of the graph filter, which needs no training, on gowalla_lightgcn.

    python -m benchmarks.quality_graph_filter             both settings on the given test split, all users
    python -m benchmarks.quality_graph_filter --search    how the second were chosen: on validation alone

Two settings are measured: those that the method's authors publish for this set (the defaults), and those with
the best NDCG@20 on a random tenth of each user's training items, of 3,000 users.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.recommend_methods import asked_users
from benchmarks.recommend_sets import GOWALLA, Cut
from benchmarks.runner import RESULTS, commit, device_name, versions
from shopsight.training.evaluation.bootstrap import interval
from shopsight.training.evaluation.ranking import ndcg_at_k, recall_at_k
from shopsight.training.recommend.graph_filter import GraphFilter
from shopsight.training.recommend.neighbours import Histories

BENCH = "quality_graph_filter"
NUM_JUDGED, SAMPLE_SEED = 3_000, 1
START: dict[str, Any] = {"sharpening": 2.5, "low_pass_weight": 0.2, "num_frequencies": 448}
KNOBS: dict[str, tuple[Any, ...]] = {
    "low_pass_weight": (0.1, 0.15, 0.2, 0.3),
    "sharpening": (1.5, 2.0, 2.5, 3.0),
    "num_frequencies": (256, 448, 640, 896),
}
CHOSEN: dict[str, Any] = START
TARGET = "Choi et al. 2023, as the project's target states it; not read again here"
PEERS = {
    **{name: (values, GOWALLA.source) for name, values in GOWALLA.published.items()},
    "BSPM": ((0.192, 0.160), TARGET),
}


def figures(settings: dict[str, Any], cut: Cut, users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fit and return recall and NDCG of each of these users, float64 [2, users]."""
    model = GraphFilter(**settings).fit(_histories(cut, np.arange(cut.recency.shape[0])))
    lists = model.recommend(_histories(cut, users), GOWALLA.k)[0]
    wanted = cut.held_out[users]
    return np.stack([recall_at_k(lists, wanted, capped=False), ndcg_at_k(lists, wanted)])


def _histories(cut: Cut, users: NDArray[np.int64]) -> Histories:
    """Return what these users have; the set has no order."""
    rows = cut.recency[users]
    return Histories(rows.indptr.astype(np.int64), rows.indices, rows.shape[1])


def search(console: Console) -> dict[str, Any]:
    """Walk along each knob once on the validation cut; prints every trial, returns the best settings."""
    cut = GOWALLA.read_validation()
    draw = np.random.default_rng(SAMPLE_SEED).choice(asked_users(cut.held_out), NUM_JUDGED, replace=False)
    users, tried = np.sort(draw), []

    def trial(settings: dict[str, Any]) -> None:
        recall, ndcg = figures(settings, cut, users).mean(axis=1)
        tried.append((float(ndcg), settings))
        console.print(f"{recall:.4f} / {ndcg:.4f}  {settings}")

    trial(START)
    for knob, values in KNOBS.items():
        origin = max(tried, key=_first)[1]
        for value in values:
            if value != origin[knob]:
                trial(origin | {knob: value})
    return max(tried, key=_first)[1]


def _first(pair: tuple[float, dict[str, Any]]) -> float:
    return pair[0]


def rows_of(name: str, settings: dict[str, Any], console: Console) -> list[dict[str, Any]]:
    """Measure settings on the test split and return a row for each metric and peer."""
    cut, began = GOWALLA.read_test(), time.perf_counter()
    found = figures(settings, cut, asked_users(cut.held_out))
    seconds = time.perf_counter() - began
    console.print(f"{name}: {found[0].mean():.4f} / {found[1].mean():.4f}, {seconds:.0f} s")
    return [
        _row(name, settings, metric, found[at], peer, seconds)
        for at, metric in enumerate(GOWALLA.metrics)
        for peer in PEERS
    ]


def _row(
    name: str, settings: dict[str, Any], metric: str, found: NDArray[np.float64], peer: str, seconds: float
) -> dict[str, Any]:
    values, source = PEERS[peer]
    theirs, ours = values[GOWALLA.metrics.index(metric)], float(found.mean())
    over_users = interval(found, seed=0)
    return {
        "bench": BENCH,
        "case": f"{GOWALLA.name}, {name}",
        "peer": peer,
        "metric": metric,
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs,
        "p20": ours / theirs,
        "p80": ours / theirs,
        "unit": "1",
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.{BENCH}",
        "protocol": GOWALLA.protocol,
        "seeds": [0],
        "data_sha256": GOWALLA.sha256(),
        "published": theirs,
        "source": source,
        "details": {
            "low": over_users["low"],
            "high": over_users["high"],
            "users": len(found),
            "settings": settings,
            "seconds": round(seconds, 1),
        },
    }


def main() -> None:
    """Measure and keep the rows, or repeat the search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--search", action="store_true", help="repeat the search on the validation cut")
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    obstacle = GOWALLA.obstacle()
    if obstacle:
        console.print(f"[yellow]skipped[/yellow] {obstacle}")
        return
    if arguments.search:
        console.print(f"chosen: {search(console)}")
        return
    rows = rows_of("published settings", START, console)
    if CHOSEN != START:
        rows += rows_of("settings chosen on validation", CHOSEN, console)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(arguments.out)


if __name__ == "__main__":
    main()
