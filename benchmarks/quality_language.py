"""Accuracy of the language model on public sets, from scratch, with the linear floor beside it.

    python -m benchmarks.quality_language                       every set, five seeds or five folds
    python -m benchmarks.quality_language banking77 --seeds 0 1 2
    python -m benchmarks.quality_language clinc150 --encoder FOLDER --encoder-name MiniLM-L6

All that is chosen is chosen on validation. The floor is TF-IDF (words 1-2 and characters 2-5; characters 1-3
for Chinese) with LinearSVC at its defaults, on the same training texts. Rows of a set are written as soon as
it is finished.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plots import plot_risk
from benchmarks.runner import RESULTS, commit, device_name, versions
from benchmarks.text_sets import SETS, TextSet, started_from
from shopsight.training.language.checkpoint import LanguageModel
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import Corpus
from shopsight.training.language.evaluation import evaluate_abstention, evaluate_task
from shopsight.training.language.trainer import fit

BENCH = "quality_language"
SEEDS = (0, 1, 2, 3, 4)
_ABSTAINED = ("in_scope_accuracy_at_threshold", "out_of_scope_recall", "auroc")
TRADE_OFF = "out_of_scope_recall_at_the_in_scope_accuracy_asked"
Say = Callable[[str], None]


def measure(case: TextSet, config: LanguageConfig, corpus: Corpus, say: Say) -> dict[str, Any]:
    """Train once and return the figures on the test part."""
    began = time.process_time()
    model, trained = fit(corpus, config, lambda line: say(f"{case.name} {line}"))
    figures = evaluate_task(model, corpus, case.task)
    found = {
        "accuracy": figures["accuracy"]["value"],
        "macro_f1": figures["macro_f1"],
        "linear_accuracy": figures["linear_accuracy"]["value"],
        "linear_macro_f1": figures["linear_macro_f1"],
        "validation": trained[f"{case.task}_validation_accuracy"],
        "calibration_error": figures["calibration_error"],
        "cpu_seconds": round(time.process_time() - began, 1),
        "parameters": trained["parameters"],
    }
    if len(corpus.out_of_scope("test")):
        found["abstention"] = evaluate_abstention(model, corpus)
        if case.in_scope_asked:
            found["abstention"][TRADE_OFF] = _recall_at(model, corpus, case.in_scope_asked)
    return found


def _recall_at(model: LanguageModel, corpus: Corpus, in_scope: float) -> float:
    """Return out-of-scope recall at the highest threshold that leaves the in-scope accuracy asked for."""
    rows = corpus.rows("test", "intent")
    inside, outside = (
        model.predict(corpus.texts_of(chosen)) for chosen in (rows, corpus.out_of_scope("test"))
    )
    right = inside.logits["intent"].argmax(1) == corpus.label["intent"][rows]
    surely = np.sort(model.scope_score(inside)[right])[::-1]
    needed = math.ceil(in_scope * len(rows))
    if needed > len(surely):
        return 0.0
    return float((model.scope_score(outside) < surely[needed - 1]).mean())


def runs_of(case: TextSet, seeds: Sequence[int], folds: int, say: Say) -> list[dict[str, Any]]:
    """Measure each seed of a set, or each of its first folds with the first seed."""
    runs = []
    for split in case.read():
        if split.number == folds:
            break
        for seed in seeds[:1] if case.folds else seeds:
            runs.append(measure(case, replace(case.config, seed=seed), split.corpus, say))
            told = {k: v for k, v in runs[-1].items() if k != "abstention"}
            told |= {k: runs[-1]["abstention"][k] for k in _ABSTAINED if "abstention" in runs[-1]}
            say(f"{case.name} seed {seed} split {split.number}: {told}")
    return runs


def rows_of(case: TextSet, runs: list[dict[str, Any]], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row for each metric: ours beside the linear model, and what abstention does."""
    rows = [
        _row(case, runs, seeds, name, [run[name] for run in runs], [run[f"linear_{name}"] for run in runs])
        for name in ("accuracy", "macro_f1")
    ]
    if "abstention" in runs[0]:
        for name in (*_ABSTAINED, TRADE_OFF):
            if name not in runs[0]["abstention"]:
                continue
            rows.append(_row(case, runs, seeds, name, [run["abstention"][name] for run in runs], None))
        rows[0]["details"]["risk_coverage"] = runs[0]["abstention"]["risk_coverage"]
    return rows


def _row(
    case: TextSet,
    runs: list[dict[str, Any]],
    seeds: Sequence[int],
    metric: str,
    ours: list[float],
    theirs: list[float] | None,
) -> dict[str, Any]:
    beside = float(np.mean(theirs)) if theirs else None
    ratios = np.array(ours) / beside if beside else np.full(len(ours), np.nan)
    low, middle, high = (float(x) if beside else None for x in np.percentile(ratios, [20, 50, 80]))
    kept = ("validation", "calibration_error", "cpu_seconds", "parameters")
    return {
        "bench": BENCH,
        "case": case.name,
        "peer": "TF-IDF, linear SVM" if theirs else None,
        "metric": metric,
        "ours": float(np.mean(ours)),
        "theirs": beside,
        "ratio": middle,
        "p20": low,
        "p80": high,
        "unit": "1",
        "device": device_name(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.{BENCH} {case.name}",
        "protocol": case.protocol,
        "seeds": "folds" if case.folds else list(seeds),
        "data_sha256": case.sha256(),
        "published": case.published if metric == case.metric else None,
        "in_scope_asked": case.in_scope_asked if metric == TRADE_OFF else None,
        "source": case.source or None,
        "details": {
            "ours_each": ours,
            "ours_sd": float(np.std(ours, ddof=1)) if len(ours) > 1 else None,
            **{name: [run[name] for run in runs] for name in kept},
            "settings": asdict(replace(case.config, encoder=Path(case.config.encoder).name)),
        },
    }


def main() -> None:
    """Measure the named sets and keep their rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {case.name: case for case in SETS}
    parser.add_argument("sets", nargs="*", default=list(names), help=f"of {', '.join(names)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--folds", type=int, default=5, help="of the sets that have no split")
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    parser.add_argument("--encoder", default="", help="start from this one instead: rows of their own")
    parser.add_argument("--encoder-name", default="an encoder", help="what the rows call it")
    arguments = parser.parse_args()
    for name in arguments.sets:
        if name not in names:
            parser.error(f"no set '{name}'; there are: {', '.join(names)}")
        case = names[name]
        if obstacle := case.obstacle():
            print(f"skipped: {obstacle}")
            continue
        if arguments.encoder:
            case = started_from(case, arguments.encoder, arguments.encoder_name)
        runs = runs_of(case, arguments.seeds, arguments.folds, lambda line: print(line, flush=True))
        _keep(arguments.out, rows_of(case, runs, arguments.seeds))


def _keep(path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace the rows of the same cases in the file."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    cases = {row["case"] for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    kept = [row for row in earlier if row["case"] not in cases]
    partial.write_text(json.dumps(kept + rows, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    told = [row for row in kept + rows if "risk_coverage" in row["details"]]
    if told:
        plot_risk(told, path.with_suffix(".png"))


if __name__ == "__main__":
    main()
