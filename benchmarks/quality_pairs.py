"""Duplicates on afqmc: whether two questions of customers ask the same, with words alone beside.

    python -m benchmarks.quality_pairs                 three seeds
    python -m benchmarks.quality_pairs --seeds 0

The floors: cosine of TF-IDF vectors (characters 1-2), and BM25 of characters 1-2 in both directions over what
each message scores with itself. Each needs no training but a threshold, which is chosen on validation as ours
is.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.datasets import SHARED, file_sha256
from benchmarks.runner import RESULTS, commit, device_name, versions
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.metrics import area_under_roc
from shopsight.training.language.pairs import Pairs, fit_pairs

BENCH = "quality_pairs"
SEEDS = (0, 1, 2)
FILES = (("afqmc", "train.csv.gz"), ("afqmc", "dev.csv.gz"))
CONFIG = LanguageConfig(
    epochs=6, vocab_size=6000, max_tokens=48, buckets=(48,), longest_ngram=4, ngram_slots=2**18, num_threads=1
)  # fmt: skip
HELD = 0.1
PROTOCOL = (
    "34,334 training pairs, of which a tenth validates (the epoch by AUC, every threshold by accuracy); the "
    "given 4,316 dev pairs are the test; saying no to every pair is right for .690 of them"
)
Scores = NDArray[np.float64]


def main() -> None:
    """Fit once a seed, set the floors beside, keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    arguments = parser.parse_args()
    if missing := [parts for parts in FILES if not SHARED.joinpath(*parts).is_file()]:
        print(f"skipped: {SHARED.joinpath(*missing[0])} is not here")
        return
    pairs, test = read(*FILES[0]), read(*FILES[1])
    order = np.random.default_rng(0).permutation(len(pairs.same)).tolist()
    cut = round(HELD * len(order))
    held, learned = pairs.at(order[:cut]), pairs.at(order[cut:])
    floors = {
        "cosine of TF-IDF": figures(cosine(learned, held), cosine(learned, test), held, test),
        "BM25": figures(bm25(learned, held), bm25(learned, test), held, test),
    }
    print(floors, flush=True)
    ours = [of_seed(seed, learned, held, test) for seed in arguments.seeds]
    rows = rows_of(ours, floors, arguments.seeds)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def read(*parts: str) -> Pairs:
    """Read one of the files."""
    content = gzip.decompress(SHARED.joinpath(*parts).read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    same = np.array([row["label"] == "1" for row in rows])
    return Pairs([row["sentence1"] for row in rows], [row["sentence2"] for row in rows], same)


def of_seed(seed: int, learned: Pairs, held: Pairs, test: Pairs) -> dict[str, float]:
    """Train once; returns the figures on the test pairs."""
    began = time.process_time()
    model = fit_pairs(learned, held, replace(CONFIG, seed=seed), lambda line: print(line, flush=True))
    scores = [model.logits(pairs.first, pairs.second) for pairs in (held, test)]
    found = figures(*scores, held, test) | {"cpu_seconds": round(time.process_time() - began, 1)}
    print(f"seed {seed}: {found}", flush=True)
    return found


def figures(on_held: Scores, on_test: Scores, held: Pairs, test: Pairs) -> dict[str, float]:
    """Return AUC on the test pairs, and accuracy at the threshold that is most accurate on validation."""
    tried = np.unique(np.quantile(on_held, np.linspace(0, 1, 401)))
    right = [float(((on_held >= threshold) == held.same).mean()) for threshold in tried]
    threshold = tried[int(np.argmax(right))]
    return {
        "auc": area_under_roc(on_test[test.same], on_test[~test.same]),
        "accuracy": float(((on_test >= threshold) == test.same).mean()),
    }


def cosine(learned: Pairs, asked: Pairs) -> Scores:
    """Cosine of TF-IDF vectors of characters 1-2."""
    weigh = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    weigh.fit([*learned.first, *learned.second])
    first, second = (weigh.transform(list(texts)) for texts in (asked.first, asked.second))
    return np.asarray(first.multiply(second).sum(1), dtype=np.float64).ravel()


def bm25(learned: Pairs, asked: Pairs) -> Scores:
    """BM25 of each message in the other, over what each scores with itself."""
    documents = [_grams(text) for text in (*learned.first, *learned.second)]
    frequency = Counter(gram for grams in documents for gram in set(grams))
    usual = sum(map(len, documents)) / len(documents)

    def score(query: list[str], document: list[str]) -> float:
        counts, norm = Counter(document), 1.2 * (0.25 + 0.75 * len(document) / usual)
        return sum(
            math.log1p((len(documents) - frequency[g] + 0.5) / (frequency[g] + 0.5))
            * counts[g] * 2.2 / (counts[g] + norm)
            for g in set(query) if g in counts
        )  # fmt: skip

    said = []
    for one, other in zip(map(_grams, asked.first), map(_grams, asked.second), strict=True):
        own = max(1e-9, score(one, one) + score(other, other))
        said.append((score(one, other) + score(other, one)) / own)
    return np.array(said)


def _grams(text: str) -> list[str]:
    text = text.lower()
    return [text[at : at + n] for n in (1, 2) for at in range(len(text) - n + 1)]


def rows_of(
    ours: Sequence[dict[str, float]], floors: dict[str, dict[str, float]], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each floor and metric."""
    rows = []
    for peer, floor in floors.items():
        for metric, theirs in floor.items():
            each = np.array([one[metric] for one in ours])
            low, middle, high = (float(x) for x in np.percentile(each / theirs, [20, 50, 80]))
            rows.append({
                "bench": BENCH, "case": "afqmc", "peer": peer, "metric": metric, "ours": float(each.mean()),
                "theirs": theirs, "ratio": middle, "p20": low, "p80": high, "unit": "1",
                "device": device_name(), "versions": versions(), "commit": commit(),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": f"python -m benchmarks.{BENCH}", "protocol": PROTOCOL, "seeds": list(seeds),
                "data_sha256": {"/".join(parts): file_sha256(*parts) for parts in FILES},
                "published": {"BERT-base, CLUE's own test": 0.737} if metric == "accuracy" else None,
                "source": "CLUE" if metric == "accuracy" else None,
                "details": {
                    "ours_each": each.tolist(),
                    "ours_sd": float(each.std(ddof=1)) if len(each) > 1 else None,
                    "cpu_seconds": [one["cpu_seconds"] for one in ours],
                    "settings": asdict(CONFIG),
                },
            })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
