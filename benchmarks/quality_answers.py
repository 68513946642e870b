"""Recall of the right answer of a public FAQ, asked in other words, with BM25 beside.

    python -m benchmarks.quality_answers

The encoder learns the intents of bitext_customer_support, never a question of the FAQ; the paraphrases were
written and committed before. Each way of scoring is shown: words (BM25), meaning, and both as they are served
to a shop whose answers have no intents.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import SHARED, file_sha256
from benchmarks.runner import RESULTS, commit, device_name, versions
from benchmarks.text_sets import CONFIG, corpus_of
from shopsight.serving.routing.answers import Entry, Weights, total
from shopsight.training.language.answers import UNLABELLED, build, messages_of
from shopsight.training.language.checkpoint import LanguageModel
from shopsight.training.language.trainer import fit

BENCH = "quality_answers"
SEEDS = (0, 1, 2)
FAQ = ("ecommerce_faq", "ecommerce_faq.json")
PARAPHRASES = Path(__file__).with_name("faq_paraphrases.json")
WAYS = {"words (BM25)": Weights(1.0, 0.0, 0.0), "meaning": Weights(0.0, 1.0, 0.0), "both": UNLABELLED}
PROTOCOL = (
    "42 paraphrases of 79 questions, written and committed before training; the encoder learns the intents "
    "of bitext_customer_support alone; answers that several questions share count as one"
)


def main() -> None:
    """Fit once a seed and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    arguments = parser.parse_args()
    if not SHARED.joinpath(*FAQ).is_file():
        print(f"skipped: {SHARED.joinpath(*FAQ)} is not here")
        return
    found = [of_seed(seed) for seed in SEEDS]
    arguments.out.write_text(json.dumps(rows_of(found), indent=1) + "\n", encoding="utf-8")


def of_seed(seed: int) -> dict[str, tuple[float, float]]:
    """Recall at 1 and at 5 of each way of scoring."""
    parts = [_bitext(name) for name in ("train", "dev", "test")]
    config = replace(CONFIG, pretrain_epochs=0, epochs=6, least_steps=0, seed=seed)
    model, _ = fit(corpus_of(parts, "intent"), config, lambda line: print(line, flush=True))
    found = {name: _recall(model, weights) for name, weights in WAYS.items()}
    print(f"seed {seed}: {found}", flush=True)
    return found


def _recall(model: LanguageModel, weights: Weights) -> tuple[float, float]:
    questions = json.loads(SHARED.joinpath(*FAQ).read_text(encoding="utf-8"))["questions"]
    asked = json.loads(PARAPHRASES.read_text(encoding="utf-8"))["paraphrases"]
    entries = [Entry(str(i), q["question"], q["answer"], "") for i, q in enumerate(questions)]
    index = build(model, entries)
    places = []
    for (number, _), message in zip(asked, messages_of(model, [text for _, text in asked]), strict=True):
        order = np.argsort(-total(index.parts(message), weights), kind="stable")
        answers = list(dict.fromkeys(entries[i].answer for i in order.tolist()))
        places.append(answers.index(entries[number].answer))
    return float(np.mean(np.array(places) < 1)), float(np.mean(np.array(places) < 5))


def rows_of(found: Sequence[dict[str, tuple[float, float]]]) -> list[dict[str, Any]]:
    """A row for each metric: both together beside words alone."""
    rows = []
    for at, metric in enumerate(("recall_at_1", "recall_at_5")):
        each = {name: [one[name][at] for one in found] for name in WAYS}
        ours, words = np.array(each["both"]), float(np.mean(each["words (BM25)"]))
        low, middle, high = (float(x) for x in np.percentile(ours / words, [20, 50, 80]))
        rows.append({
            "bench": BENCH, "case": "ecommerce_faq, paraphrases", "peer": "BM25", "metric": metric,
            "ours": float(ours.mean()), "theirs": words, "ratio": middle, "p20": low, "p80": high,
            "unit": "1", "device": device_name(), "versions": versions(), "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": f"python -m benchmarks.{BENCH}", "protocol": PROTOCOL, "seeds": list(SEEDS),
            "data_sha256": {"/".join(FAQ): file_sha256(*FAQ)}, "published": None, "source": None,
            "details": {"by_way": each},
        })  # fmt: skip
    return rows


def _bitext(name: str) -> list[tuple[str, str]]:
    path = SHARED / "bitext_customer_support" / f"{name}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return [(row["utterance"], row["intent"]) for row in csv.DictReader(stream)]


if __name__ == "__main__":
    main()
