"""Quality of the next item on public sets: faded neighbours, EASE, transitions, ALS and popularity.

    python -m benchmarks.quality_sequence amazon_beauty_s3rec ml1m

Leave one out: the last item of each customer is asked for, all items are ranked, and the items of the history
are left out. Every setting is chosen by NDCG@10 on the item before the last, with the last left away, of at
most 10,000 customers drawn by a fixed seed; the search is part of each run. Then two figures are taken once
for each method: fitted to all but the last two items, as the published neural models are, and fitted again to
all but the last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.runner import RESULTS, commit, device_name, versions
from benchmarks.sequence_methods import Fitted, Method, Values, methods
from benchmarks.sequence_sets import (
    SETS,
    Question,
    SequenceSet,
    final_as_published,
    final_refitted,
    sampled,
    validation,
)
from shopsight.training.evaluation.bootstrap import interval
from shopsight.training.evaluation.ranking import hit_rate_at_k, ndcg_at_k
from shopsight.training.recommend.neighbours import Histories

BENCH = "quality_sequence"
K = 10
MOST_JUDGED = 10_000  # customers of the search
METRICS = (f"hr_at_{K}", f"ndcg_at_{K}")
PROTOCOL = (
    "leave one out: the last item of each customer, all items ranked, items of the history left out; "
    "settings chosen by NDCG@10 on the last item but one, with the last left away, of at most 10,000 "
    "customers; "
)
FINALS: dict[str, Callable[[Histories], Question]] = {
    "fitted to all but the last two items": final_as_published,
    "fitted again to all but the last item": final_refitted,
}
Rows = list[dict[str, Any]]
PerCustomer = NDArray[np.float64]  # [metrics, customers]


@dataclass(frozen=True)
class Choice:
    """What a search found: values of the fit and of the question, NDCG@10, and how many fits it took."""

    fitted: Values
    asked: Values
    ndcg: float
    num_fits: int
    seconds: float


def figures(fitted: Fitted, question: Question, asked: Values) -> PerCustomer:
    """Return hit rate and NDCG of each customer who has a held-out item, float64 [2, customers]."""
    lists = fitted.lists(question.asked, K, **asked)
    judged = np.flatnonzero(np.diff(question.held_out.indptr))
    lists, wanted = lists[judged], question.held_out[judged]
    return np.stack([hit_rate_at_k(lists, wanted), ndcg_at_k(lists, wanted)])


def search(method: Method, question: Question, console: Console) -> Choice:
    """Walk along each knob once and keep what has the best NDCG on the validation cut."""
    began, tried = time.perf_counter(), 0
    best: tuple[float, Values, Values] | None = None

    def trial(values: Values) -> None:
        nonlocal best, tried
        fitted, tried = method.fitted(question.learned, values), tried + 1
        for asked in method.questions():
            ndcg = float(figures(fitted, question, asked)[1].mean())
            if best is None or ndcg > best[0]:
                best = (ndcg, values, asked)
                console.print(f"{method.name}: NDCG@{K} {ndcg:.4f} with {values | asked}")

    trial(method.start)
    for knob, values in method.knobs.items():
        assert best is not None
        origin = best[1]
        for value in values:
            if value != origin[knob]:
                trial(origin | {knob: value})
    assert best is not None
    return Choice(best[1], best[2], best[0], tried, time.perf_counter() - began)


def rows_of(chosen: SequenceSet, histories: Histories, method: Method, console: Console) -> Rows:
    """Search, take the final figures of one method, and return its rows: one for each metric and peer."""
    choice = search(method, sampled(validation(histories), MOST_JUDGED), console)
    rows: Rows = []
    for final, cut in FINALS.items():
        began = time.perf_counter()
        question = cut(histories)
        by_seed = np.stack(
            [
                figures(method.fitted(question.learned, choice.fitted, seed), question, choice.asked)
                for seed in method.seeds or (0,)
            ]
        )  # [seeds, metrics, customers]
        seconds = time.perf_counter() - began
        hit_rate, ndcg = by_seed.mean(axis=(0, 2))
        console.print(f"{chosen.name}, {method.name}, {final}: {hit_rate:.4f} / {ndcg:.4f}, {seconds:.0f} s")
        rows += [
            _row(chosen, method, choice, final, metric, by_seed[:, at], peer, seconds)
            for at, metric in enumerate(METRICS)
            for peer in chosen.published
        ]
    return rows


def _row(
    chosen: SequenceSet,
    method: Method,
    choice: Choice,
    final: str,
    metric: str,
    by_seed: PerCustomer,
    peer: str,
    seconds: float,
) -> dict[str, Any]:
    published = chosen.published[peer]
    theirs = published.hit_rate if metric == METRICS[0] else published.ndcg
    ours = float(by_seed.mean())
    low, middle, high = (float(x) for x in np.percentile(by_seed.mean(axis=1) / theirs, [20, 50, 80]))
    over_customers = interval(by_seed.mean(axis=0), seed=0)
    return {
        "bench": BENCH,
        "case": f"{chosen.name}, {method.name}, {final}",
        "peer": peer,
        "metric": metric,
        "ours": ours,
        "theirs": theirs,
        "ratio": middle,
        "p20": low,
        "p80": high,
        "unit": "1",
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.{BENCH} {chosen.name} --methods '{method.name}'",
        "protocol": PROTOCOL + final,
        "seeds": list(method.seeds),
        "data_sha256": chosen.sha256(),
        "published": theirs,
        "source": published.source,
        "details": {
            "set": chosen.name,
            "method": method.name,
            "fitted_to": final,
            "low": over_customers["low"],
            "high": over_customers["high"],
            "customers": by_seed.shape[1],
            "by_seed": [float(x) for x in by_seed.mean(axis=1)],
            "settings": _plain(choice.fitted | choice.asked),
            "validation_ndcg": choice.ndcg,
            "fits_of_the_search": choice.num_fits,
            "search_seconds": round(choice.seconds, 1),
            "final_seconds": round(seconds, 1),
        },
    }


def _plain(values: Values) -> Values:
    """Return values as JSON has them: no infinity."""
    return {name: None if value == np.inf else value for name, value in values.items()}


def shown(rows: Rows, name: str) -> Table:
    """Return the rows of one set as a table: ours by method with 95 % intervals, then the peers."""
    table = Table(title=f"{name}: mean over customers, 95 % interval")
    for column in ("method", "fitted to", *METRICS):
        table.add_column(column)
    found: dict[tuple[str, str], dict[str, str]] = {}
    peers: dict[str, dict[str, str]] = {}
    for row in rows:
        about = row["details"]
        if about["set"] == name:
            cell = f"{row['ours']:.4f} ({about['low']:.4f}-{about['high']:.4f})"
            found.setdefault((about["method"], about["fitted_to"]), {})[row["metric"]] = cell
            peers.setdefault(row["peer"], {})[row["metric"]] = f"{row['theirs']:.4f}"
    for (method, final), cells in found.items():
        table.add_row(method, final, *(cells[metric] for metric in METRICS))
    for peer, cells in peers.items():
        table.add_row(f"{peer}, published", "", *(cells[metric] for metric in METRICS))
    return table


def main() -> None:
    """Search and measure the named methods on the named sets, and keep the rows after each method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = {method.name: method for method in methods()}
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--methods", nargs="+", default=list(every), help=f"of {', '.join(every)}")
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    arguments = parser.parse_args()
    console = Console()
    for given, known in ((arguments.sets, SETS), (arguments.methods, every)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no '{unknown[0]}'; there are: {', '.join(known)}")
    for chosen in (SETS[name] for name in arguments.sets):
        obstacle = chosen.obstacle()
        if obstacle:
            console.print(f"[yellow]skipped[/yellow] {obstacle}")
            continue
        histories = chosen.read()
        console.print(f"{chosen.name}: {len(histories)} customers, {histories.num_items} items")
        for name in arguments.methods:
            _keep(arguments.out, rows_of(chosen, histories, every[name], console))
        console.print(shown(_read(arguments.out), chosen.name))


def _keep(path: Path, rows: Rows) -> None:
    """Write the rows in the place of those with the same cases."""
    cases = {row["case"] for row in rows}
    kept = [row for row in _read(path) if row["case"] not in cases] + rows
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> Rows:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


if __name__ == "__main__":
    main()
