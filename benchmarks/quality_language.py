"""Accuracy of the language model on public sets, with the linear floor beside it.

    python -m benchmarks.quality_language --data ../shared/data clinc150 banking77 --seeds 0 1 2

Protocols: given test splits; validation is the given one, or a tenth of training (seeded, stratified), and
all that is chosen is chosen there. online_shopping_10_cats has no split: five stratified folds of seed 0,
of which --folds are run. The floor is TF-IDF with LinearSVC at its defaults, on the same training texts.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from training.language.config import LanguageConfig
from training.language.corpus import NO_LABEL, OUT_OF_SCOPE, Corpus
from training.language.evaluation import evaluate_abstention, evaluate_task
from training.language.trainer import fit

CONFIG = LanguageConfig(
    epochs=14,
    vocab_size=3000,
    width=192,
    max_tokens=64,
    buckets=(8, 16, 32, 64),
    embedding_dropout=0.4,
    head_dropout=0.5,
    word_dropout=0.15,
    patience=14,
    num_threads=1,
    wrong_answer_cost=2.0,
)
REVIEWS = replace(
    CONFIG, epochs=6, width=128, max_tokens=192, buckets=(16, 32, 64, 128, 192), vocab_size=16_000
)

Rows = Sequence[tuple[str, str]]
Case = tuple[str, str, LanguageConfig, Corpus]


def corpus_of(parts: Sequence[Rows], task: str) -> Corpus:
    """Return training, validation and test rows of (text, label) as a corpus of one task."""
    texts = [text for rows in parts for text, _ in rows]
    names = tuple(sorted({label for _, label in parts[0]} - {"oos"}))
    number = {name: i for i, name in enumerate(names)} | {"oos": OUT_OF_SCOPE}
    label = np.array([number[label] for rows in parts for _, label in rows], dtype=np.int64)
    split = np.repeat(np.arange(3), [len(rows) for rows in parts])
    other = "sentiment" if task == "intent" else "intent"
    labels = {task: label, other: np.full(len(texts), NO_LABEL, dtype=np.int64)}
    return Corpus(texts, {task: names, other: ()}, labels, split, ())


def clinc150(data: Path, folds: int, file: str = "data_full") -> Iterator[Case]:
    """Yield the given split; messages out of scope are no class and only judge abstention."""
    del folds
    with gzip.open(data / "clinc150" / f"{file}.json.gz", "rt", encoding="utf-8") as stream:
        raw = json.load(stream)
    parts = [[(t, y) for t, y in raw[s] + raw[f"oos_{s}"]] for s in ("train", "val", "test")]
    yield "clinc150", "intent", CONFIG, corpus_of(parts, "intent")


def clinc150_small(data: Path, folds: int) -> Iterator[Case]:
    """Yield the split of half the training texts."""
    for _, task, config, corpus in clinc150(data, folds, "data_small"):
        yield "clinc150_small", task, config, corpus


def banking77(data: Path, folds: int) -> Iterator[Case]:
    """Yield the given split, a tenth of training set aside for validation."""
    del folds
    train, test = (_csv(data / "banking77" / f"{name}.csv.gz") for name in ("train", "test"))
    learned, held = next(
        StratifiedShuffleSplit(1, test_size=0.1, random_state=0).split(train, [y for _, y in train])
    )
    parts = [[train[i] for i in learned], [train[i] for i in held], test]
    yield "banking77", "intent", CONFIG, corpus_of(parts, "intent")


def online_shopping(data: Path, folds: int) -> Iterator[Case]:
    """Yield folds of Chinese reviews by sentiment, a twentieth of each training part for validation."""
    path = next((data / "online_shopping_10_cats").glob("*.csv.gz"))
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
        rows = [(r["review"], r["label"]) for r in csv.DictReader(stream) if r["review"].strip()]
    labels = [label for _, label in rows]
    splitter = StratifiedKFold(5, shuffle=True, random_state=0)
    for fold, (rest, test) in enumerate(splitter.split(rows, labels)):
        if fold == folds:
            return
        inner = StratifiedShuffleSplit(1, test_size=0.05, random_state=0)
        learned, held = next(inner.split(rest, [labels[i] for i in rest]))
        parts = [[rows[i] for i in chosen] for chosen in (rest[learned], rest[held], test)]
        yield f"online_shopping fold {fold}", "sentiment", REVIEWS, corpus_of(parts, "sentiment")


CASES: dict[str, Callable[[Path, int], Iterator[Case]]] = {
    "clinc150": clinc150,
    "clinc150_small": clinc150_small,
    "banking77": banking77,
    "online_shopping": online_shopping,
}


def measure(case: str, task: str, config: LanguageConfig, corpus: Corpus, console: Console) -> dict[str, Any]:
    """Train once and return a row of figures."""
    began = time.process_time()
    model, trained = fit(corpus, config, lambda line: console.print(f"[dim]{case}[/dim] {line}"))
    seconds = time.process_time() - began
    figures = evaluate_task(model, corpus, task)
    row: dict[str, Any] = {
        "case": case,
        "task": task,
        "seed": config.seed,
        "ours": figures["accuracy"],
        "linear": figures["linear_accuracy"],
        "validation": trained[f"{task}_validation_accuracy"],
        "calibration_error": figures["calibration_error"],
        "cpu_seconds": round(seconds, 1),
        "parameters": trained["parameters"],
        "config": asdict(config),
    }
    if len(corpus.out_of_scope("test")):
        row["abstention"] = evaluate_abstention(model, corpus)
    return row


def shown(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the rows as a table for people."""
    table = Table(title="held-out accuracy, 95 % Wilson intervals")
    columns = ("case", "seed", "ours", "linear", "ECE", "CPU s", "at threshold", "OOS recall", "AUROC")
    for column in columns:
        table.add_column(column)
    for row in rows:
        ours, linear, rule = row["ours"], row["linear"], row.get("abstention", {})
        cells = [row["case"], str(row["seed"])]
        cells += [f"{f['value']:.4f} ({f['low']:.4f} to {f['high']:.4f})" for f in (ours, linear)]
        cells += [f"{row['calibration_error']:.3f}", f"{row['cpu_seconds']:.0f}"]
        names = ("in_scope_accuracy_at_threshold", "out_of_scope_recall", "auroc")
        cells += [f"{rule[name]:.4f}" if name in rule else "" for name in names]
        table.add_row(*cells)
    return table


def main() -> None:
    """Run the named cases and print the table; --out keeps the rows as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--data", type=Path, required=True, help="the folder of the public data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, default=5, help="folds of online_shopping to run")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    arguments = parser.parse_args()
    console, rows = Console(), []
    for name in arguments.cases:
        for case, task, config, corpus in CASES[name](arguments.data, arguments.folds):
            for seed in arguments.seeds:
                rows.append(measure(case, task, replace(config, seed=seed), corpus, console))
                console.print(shown(rows))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"format_version": 1, "rows": rows}, indent=1) + "\n")


def _csv(path: Path) -> list[tuple[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


if __name__ == "__main__":
    main()
