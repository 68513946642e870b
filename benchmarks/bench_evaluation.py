"""Figures of ranked lists against a Python loop over users."""

from __future__ import annotations

import tracemalloc

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.datasets import zipf_interactions
from benchmarks.runner import Report, interleave
from shopsight.training.evaluation.ranking import Int, ranking_figures

SHAPES = ((20_000, 20_000, 10), (100_000, 20_000, 10), (20_000, 20_000, 100))
_WANTED_PER_USER = 10


def run(report: Report) -> None:
    """Recall, hit rate, NDCG, MRR and MAP together at several sizes, with the peak of the memory."""
    for num_users, num_items, k in SHAPES:
        compare(report, num_users, num_items, k)


def compare(report: Report, num_users: int, num_items: int, k: int) -> None:
    """One row: the same figures from blocks and from a loop, which must agree."""
    relevant = zipf_interactions(num_users, num_items, _WANTED_PER_USER * num_users)
    lists = np.random.default_rng(0).integers(0, num_items, (num_users, k)).astype(np.int32)
    lists[:, 0] = np.arange(num_users) % 50  # the popular items, so that there are hits
    ours, theirs = ranking_figures(lists, relevant), one_by_one(lists, relevant)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-9)
    tracemalloc.start()
    ranking_figures(lists, relevant)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = interleave(
        {"ours": lambda: ranking_figures(lists, relevant), "loop": lambda: one_by_one(lists, relevant)}
    )
    report.add_times(
        f"{num_users} users, {num_items} items, k = {k}",
        "Python loop over users",
        seconds["ours"],
        seconds["loop"],
        peak_mib=round(peak / 2**20, 1),
        mib_of_lists=round(lists.nbytes / 2**20, 1),
    )


def one_by_one(lists: Int, relevant: csr_matrix) -> dict[str, np.ndarray]:
    """The same figures by sets and plain Python numbers, one user at a time."""
    k = lists.shape[1]
    discount = (1 / np.log2(np.arange(2, k + 2))).tolist()
    ideal = np.concatenate([[0.0], np.cumsum(discount)]).tolist()
    found: dict[str, list[float]] = {name: [] for name in ("recall", "hit_rate", "ndcg", "mrr", "map")}
    for user, items in enumerate(lists.tolist()):
        wanted = set(relevant.indices[relevant.indptr[user] : relevant.indptr[user + 1]].tolist())
        left, ranks = set(wanted), []
        for rank, item in enumerate(items, 1):
            if item in left:
                left.remove(item)
                ranks.append(rank)
        reachable = min(k, len(wanted))
        nothing = float("nan") if not wanted else 0.0
        found["recall"].append(len(ranks) / reachable if wanted else nothing)
        found["hit_rate"].append(1.0 if ranks else nothing)
        found["ndcg"].append(
            sum(discount[rank - 1] for rank in ranks) / ideal[reachable] if wanted else nothing
        )
        found["mrr"].append(1 / ranks[0] if ranks else nothing)
        precision = sum(number / rank for number, rank in enumerate(ranks, 1))
        found["map"].append(precision / reachable if wanted else nothing)
    return {name: np.array(values) for name, values in found.items()}
