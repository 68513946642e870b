"""Intents learned from a handful of examples: what that does to new ones and to known ones, on clinc150.

    python -m benchmarks.quality_new_intents

Ten of the 150 intents, drawn anew for each seed, are left out of training. They are then learned from 5, 10
and 20 of their training messages, drawn at random, by what `shopsight learn-intents` calls. Beside: a linear
SVM fitted anew on all training messages of the known intents and the same examples. Before that, the messages
of the ten that the trained model abstains from are grouped, as `shopsight evaluate language` reports them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.runner import RESULTS, commit, device_name, versions
from benchmarks.text_sets import CONFIG, SETS, TextSet
from shopsight.training.language.checkpoint import LanguageModel
from shopsight.training.language.corpus import NO_LABEL, Corpus
from shopsight.training.language.drift import OUTSIDE, RECENT, Read, groups
from shopsight.training.language.linear import fit_linear
from shopsight.training.language.new_intents import Examples, extended
from shopsight.training.language.trainer import fit

BENCH = "quality_new_intents"
SEEDS, NUM_NEW, HANDFULS = (0, 1, 2), 10, (5, 10, 20)
PROTOCOL = (
    f"{NUM_NEW} intents of clinc150 drawn for each seed, left out of training, then learned from the given "
    "number of examples each; accuracy on the test messages of the new intents and of the other 140, all 150 "
    "being possible answers; the linear SVM is fitted anew on all messages"
)


@dataclass(frozen=True)
class Held:
    """A corpus without some of its intents, and the rows of those."""

    corpus: Corpus
    whole: Corpus
    new: tuple[str, ...]

    def rows(self, split: str, *, new: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows of a split, of the new intents or of the known."""
        rows, names = self.whole.rows(split, "intent"), self.whole.classes["intent"]
        is_new = np.isin([names[i] for i in self.whole.label["intent"][rows]], self.new)
        return rows[is_new == new]

    def names_of(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
        """The intent of each row."""
        return [self.whole.classes["intent"][i] for i in self.whole.label["intent"][rows]]


def held_out(whole: Corpus, seed: int) -> Held:
    """Return the corpus with NUM_NEW intents unlabelled."""
    names = whole.classes["intent"]
    new = tuple(sorted(np.random.default_rng(seed).choice(names, NUM_NEW, replace=False).tolist()))
    kept = tuple(name for name in names if name not in new)
    number = np.array([kept.index(n) if n in kept else NO_LABEL for n in names], dtype=np.int64)
    label = whole.label["intent"].copy()
    label[label >= 0] = number[label[label >= 0]]
    corpus = replace(whole, classes={**whole.classes, "intent": kept}, label={**whole.label, "intent": label})
    return Held(corpus, whole, new)


def of_seed(case: TextSet, seed: int, say: Any) -> dict[str, Any]:
    """Train without the new intents, group them, learn them; returns the figures of each handful."""
    held = held_out(next(case.read()).corpus, seed)
    model, _ = fit(held.corpus, replace(CONFIG, seed=seed), say)
    found: dict[str, Any] = {"groups": grouped(model, held), "before": _accuracy(model, held)}
    for handful in HANDFULS:
        examples = _drawn(held, handful, seed)
        began = time.monotonic()
        learned = extended(model, held.corpus, examples)
        seconds = time.monotonic() - began
        found[str(handful)] = {
            **_accuracy(learned, held), "seconds": round(seconds, 1), "linear": _linear(held, examples)
        }  # fmt: skip
        say(f"seed {seed}, {handful} examples: {found[str(handful)]}")
    return found


def _drawn(held: Held, handful: int, seed: int) -> Examples:
    rng = np.random.default_rng([seed, handful])
    rows = held.rows("train", new=True)
    names = np.array(held.names_of(rows))
    chosen = np.concatenate([rng.choice(rows[names == name], handful, replace=False) for name in held.new])
    return Examples(held.whole.texts_of(chosen), held.names_of(chosen))


def _accuracy(model: LanguageModel, held: Held) -> dict[str, float]:
    told = {}
    for key in ("new", "known"):
        rows = held.rows("test", new=key == "new")
        said = model.predict(held.whole.texts_of(rows)).labels("intent")
        told[key] = float(np.mean([a == b for a, b in zip(said, held.names_of(rows), strict=True)]))
    return told


def _linear(held: Held, examples: Examples) -> dict[str, float]:
    rows = held.rows("train", new=False)
    names = held.whole.classes["intent"]
    texts = held.whole.texts_of(rows) + examples.texts
    label = np.array([names.index(n) for n in held.names_of(rows) + examples.intents], dtype=np.int64)
    machine, told = fit_linear(texts, label), {}
    for key in ("new", "known"):
        asked = held.rows("test", new=key == "new")
        told[key] = float(
            (machine.predict(held.whole.texts_of(asked)) == held.whole.label["intent"][asked]).mean()
        )
    return told


def grouped(model: LanguageModel, held: Held) -> dict[str, Any]:
    """How many of the new intents stand out as a group of their own among what the model abstains from.

    A group counts when the three messages shown for it are of one new intent.
    """
    known, new = held.rows("test", new=False), held.rows("train", new=True)
    texts = held.whole.texts_of(known) + held.whole.texts_of(new)
    is_new = np.arange(len(texts)) >= len(known)
    said = model.predict(texts)
    inside = model.in_scope(said)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    before = now - RECENT - timedelta(days=30)
    late = is_new | (np.arange(len(texts)) % 2 == 0)
    frame = pl.DataFrame({
        "timestamp": [now - timedelta(minutes=i) if is_late else before for i, is_late in enumerate(late)],
        "text": texts,
        "intent": [n if ok else OUTSIDE for n, ok in zip(said.labels("intent"), inside, strict=True)],
    }).sort("timestamp")  # fmt: skip
    truth = dict(zip(held.whole.texts_of(new), held.names_of(new), strict=True))
    shown = [{truth.get(text) for text in group["examples"]} for group in groups(Read(frame))]
    pure = [next(iter(names)) for names in shown if len(names) == 1 and None not in names]
    return {
        "abstained_of_new": float((~inside[is_new]).mean()),
        "abstained_of_known": float((~inside[~is_new]).mean()),
        "groups": len(shown),
        "groups_of_one_new_intent": len(pure),
        "new_intents_found": len(set(pure)),
    }


def rows_of(case: TextSet, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each handful and kind of intent: ours beside the linear SVM."""
    rows = []
    for handful in map(str, HANDFULS):
        for key in ("new", "known"):
            ours = np.array([one[handful][key] for one in found])
            theirs = float(np.mean([one[handful]["linear"][key] for one in found]))
            low, middle, high = (float(x) for x in np.percentile(ours / theirs, [20, 50, 80]))
            rows.append({
                "bench": BENCH, "case": f"clinc150, {handful} examples, {key} intents",
                "peer": "TF-IDF, linear SVM, fitted anew", "metric": "accuracy", "ours": float(ours.mean()),
                "theirs": theirs, "ratio": middle, "p20": low, "p80": high, "unit": "1",
                "device": device_name(), "versions": versions(), "commit": commit(),
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": f"python -m benchmarks.{BENCH}", "protocol": PROTOCOL, "seeds": list(SEEDS),
                "data_sha256": case.sha256(), "published": None, "source": None,
                "details": {
                    "ours_each": ours.tolist(),
                    "seconds": [one[handful]["seconds"] for one in found],
                    "known_before": [one["before"]["known"] for one in found],
                    "groups": [one["groups"] for one in found],
                },
            })  # fmt: skip
    return rows


def main() -> None:
    """Measure every seed and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = RESULTS / device_name(slug=True) / f"{BENCH}.json"
    parser.add_argument("--out", type=Path, default=default, help="where the rows go")
    arguments = parser.parse_args()
    (case,) = (one for one in SETS if one.name == "clinc150")
    if obstacle := case.obstacle():
        print(f"skipped: {obstacle}")
        return
    found = [of_seed(case, seed, lambda line: print(line, flush=True)) for seed in SEEDS]
    arguments.out.write_text(json.dumps(rows_of(case, found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
