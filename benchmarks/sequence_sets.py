"""The public sets on which the next item is predicted: leave one out, in the order of time."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.datasets import SHARED, file_sha256
from shopsight.training.recommend.neighbours import Histories


@dataclass(frozen=True)
class Published:
    """Figures of others on the same cut, HR@10 and NDCG@10, and where they are written."""

    hit_rate: float
    ndcg: float
    source: str


@dataclass(frozen=True)
class SequenceSet:
    """A set, its file below ../shared/data, and what has been published on it, by method."""

    name: str
    file: tuple[str, str]
    read_pairs: Callable[[Iterator[str]], Iterator[tuple[str, str]]]
    published: dict[str, Published]

    def obstacle(self) -> str | None:
        """Return why it cannot be measured here; None where it can."""
        if SHARED.joinpath(*self.file).is_file():
            return None
        return f"{self.name}: {Path(*self.file)} is not in ../shared/data beside the checkout"

    def sha256(self) -> dict[str, str]:
        """Return the hash of its file."""
        return {"/".join(self.file): file_sha256(*self.file)}

    def read(self) -> Histories:
        """Return the histories of all customers."""
        with gzip.open(SHARED.joinpath(*self.file), "rt", encoding="ascii") as lines:
            return histories_of(self.read_pairs(lines))


@dataclass(frozen=True)
class Question:
    """What is asked: the next item of each customer.

    learned: the histories that models are fitted to. asked: the histories that are continued; their items are
    left out of the lists. held_out: CSR of ones [customers, items], the one right item of each customer.
    """

    learned: Histories
    asked: Histories
    held_out: sparse.csr_matrix


def validation(histories: Histories) -> Question:
    """Ask for the last item but one; the last is not there at all."""
    known = without_last(histories, 2)
    return Question(known, known, _items_before_end(histories, 2))


def final_as_published(histories: Histories) -> Question:
    """Ask for the last item of models that never saw the last two, as neural models are published."""
    known = without_last(histories, 1)
    return Question(without_last(histories, 2), known, _items_before_end(histories, 1))


def final_refitted(histories: Histories) -> Question:
    """Ask for the last item of models that were fitted to all before it."""
    known = without_last(histories, 1)
    return Question(known, known, _items_before_end(histories, 1))


def sampled(question: Question, most: int, seed: int = 1) -> Question:
    """Return a question that asks at most so many of its customers, drawn at random, in their order."""
    num_customers = len(question.asked)
    if num_customers <= most:
        return question
    drawn = np.sort(np.random.default_rng(seed).choice(num_customers, most, replace=False))
    return Question(question.learned, question.asked.chosen(drawn), question.held_out[drawn])


def histories_of(pairs: Iterator[tuple[str, str]]) -> Histories:
    """Return (customer, item) pairs, in order within a customer, as histories with numbers for names."""
    items: dict[str, int] = {}
    rows: dict[str, list[int]] = {}
    for customer, item in pairs:
        rows.setdefault(customer, []).append(items.setdefault(item, len(items)))
    return Histories.of(list(rows.values()), len(items))


def without_last(histories: Histories, num_events: int) -> Histories:
    """Return the histories without the last events of each customer; short ones become empty."""
    kept = histories.steps_back() >= num_events
    counts = np.bincount(histories.customers()[kept], minlength=len(histories))
    indptr: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)])
    return Histories(indptr, histories.items[kept], histories.num_items)


def _items_before_end(histories: Histories, place: int) -> sparse.csr_matrix:
    """Return the item at this place from the end, 1 the last, CSR of ones; shorter histories have none."""
    chosen = histories.steps_back() == place - 1
    cells = (histories.customers()[chosen], histories.items[chosen])
    ones = np.ones(int(chosen.sum()), np.float32)
    return sparse.csr_matrix((ones, cells), (len(histories), histories.num_items))


def _pair_lines(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        customer, item = line.split()
        yield customer, item


def _history_lines(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        customer, *items = line.split()
        yield from ((customer, item) for item in items)


_S3REC = "README of RUCAIBox/CIKM2020-S3Rec, all items ranked"
_ANTKLEN = "README of antklen/sasrec-bert4rec-recsys23; masking of seen items not said"
_TARGET = "Shin et al. 2024, five seeds, as the project's target states it; not read again here"
BEAUTY = SequenceSet(
    "amazon_beauty_s3rec",
    ("amazon_beauty_s3rec", "Beauty.txt.gz"),
    _history_lines,
    {
        "SASRec": Published(0.0605, 0.0318, _S3REC),
        "S3-Rec": Published(0.0647, 0.0327, _S3REC),
        "BSARec": Published(0.1004, 0.0609, _TARGET),
    },
)
ML1M = SequenceSet(
    "ml1m",
    ("ml1m", "ml-1m.txt.gz"),
    _pair_lines,
    {
        "SASRec": Published(0.2500, 0.1341, _ANTKLEN),
        "BERT4Rec": Published(0.2843, 0.1537, _ANTKLEN),
        "SASRec with cross-entropy, 3,000 negatives": Published(0.3159, 0.1857, _ANTKLEN),
    },
)
SPORTS = SequenceSet(
    "amazon_sports_s3rec",
    ("amazon_sports_s3rec", "Sports_and_Outdoors.txt.gz"),
    _history_lines,
    {
        "SASRec": Published(0.0350, 0.0192, _S3REC),
        "S3-Rec": Published(0.0385, 0.0204, _S3REC),
        "BSARec": Published(0.0596, 0.0342, _TARGET),
    },
)
BEAUTY_LARGE = SequenceSet(
    "amazon_beauty_bert4rec",
    ("amazon_beauty_bert4rec", "beauty.txt.gz"),
    _pair_lines,
    {
        "SASRec": Published(0.0246, 0.0126, _ANTKLEN),
        "BERT4Rec": Published(0.0338, 0.0187, _ANTKLEN),
        "SASRec with cross-entropy": Published(0.0533, 0.0327, _ANTKLEN),
    },
)
SETS = {chosen.name: chosen for chosen in (BEAUTY, ML1M, SPORTS, BEAUTY_LARGE)}
