"""Basket affinities against counted pairs, SciPy's Fisher test and Benjamini-Hochberg, and a planted pair."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from shopsight.training.behaviour import basket
from shopsight.training.behaviour.basket import affinities
from shopsight.training.behaviour.errors import BehaviourError
from shopsight.training.behaviour.significance import false_discovery_rates, more_often_than_chance
from tests.training.small_shop import event, table

ITEMS = table(
    "items",
    [{"item_id": "post", "goods": False}, {"item_id": "i0", "title": "Hat", "goods": True}],
).lazy()


def orders(baskets: list[set[int]]) -> pl.DataFrame:
    rows = []
    for n, items in enumerate(baskets):
        of = {"order_id": f"o{n}"} if n % 3 else {}
        rows += [
            event(f"c{n}", f"i{i}", "purchase", n / 100, line_id=f"{n} {i}", **of) for i in sorted(items)
        ]
        rows += [event(f"c{n}", "post", "purchase", n / 100, line_id=f"{n} post", **of)]
    return table("events", rows)


def random_baskets(seed: int, num: int = 300, num_items: int = 12) -> list[set[int]]:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(num_items, 5.0))
    baskets = [set(rng.choice(num_items, 1 + rng.poisson(1.5), p=weights).tolist()) for _ in range(num)]
    return [b | {1} if 0 in b and rng.random() < 0.7 else b for b in baskets]  # 0 brings 1


@pytest.mark.parametrize("block", [1, 5, 2_000])
@pytest.mark.parametrize("seed", range(3))
def test_every_pair_is_counted_and_tested(seed: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basket, "_BLOCK", block)
    baskets = random_baskets(seed)
    found = affinities(orders(baskets).lazy(), ITEMS, min_baskets=8, rate=0.999999)
    sizes = {f"i{i}": sum(i in b for b in baskets) for i in range(12)}
    tested = sorted(i for i, size in sizes.items() if size >= 8)
    num_pairs = len(tested) * (len(tested) - 1) // 2
    assert (found.num_baskets, found.num_tests) == (300, num_pairs)
    places = [len([i for i in b if f"i{i}" in tested]) for b in baskets]
    share = sum(n * (n - 1) for n in places) / (sum(places) * (sum(places) - 1))
    slow: dict[Any, tuple[int, float]] = {}
    for a, b in combinations(tested, 2):
        both = sum({int(a[1:]), int(b[1:])} <= one for one in baskets)
        cells = [[both, sizes[a] - both], [sizes[b] - both, 300 - sizes[a] - sizes[b] + both]]
        above = both > sizes[a] * sizes[b] / 300
        fisher = stats.fisher_exact(cells, alternative="greater").pvalue if above else 1.0
        expected = sizes[a] * sizes[b] * share
        slow[a, b] = both, max(fisher, stats.poisson.sf(both - 1, expected) if both else 1.0)
    q_values = dict(zip(slow, stats.false_discovery_control([p for _, p in slow.values()]), strict=True))
    rows = {(r["item_a"], r["item_b"]): r for r in found.pairs.to_dicts()}
    assert rows.keys() == {pair for pair, q in q_values.items() if q <= 0.999999}
    assert rows
    for (a, b), row in rows.items():
        assert row["together"] == slow[a, b][0]
        assert row["p_value"] == pytest.approx(slow[a, b][1], rel=1e-8)
        assert row["q_value"] == pytest.approx(q_values[a, b], rel=1e-8)
        assert row["support"] == pytest.approx(row["together"] / 300)
        assert row["lift"] == pytest.approx(row["together"] * 300 / (sizes[a] * sizes[b]))
        assert row["lift_low"] < row["lift"] < row["lift_high"]
        assert row["share_of_a"] == pytest.approx(row["together"] / sizes[a])


def test_a_planted_pair_is_found_and_lift_alone_would_not_do() -> None:
    rng = np.random.default_rng(1)
    baskets = [set(rng.choice(60, 3, replace=False).tolist()) for _ in range(4_000)]
    baskets = [b | {1} if 0 in b and rng.random() < 0.4 else b for b in baskets]
    baskets += [{70, 71} for _ in range(1)]  # the highest lift of all, by a single basket
    found = affinities(orders(baskets).lazy(), ITEMS, min_baskets=1)
    assert found.pairs.row(0, named=True)["item_b"] == "i1"
    assert found.pairs["title_a"][0] == "Hat"
    assert found.pairs.height <= 1 + 0.2 * 10
    assert ("i70", "i71") not in set(found.pairs.select("item_a", "item_b").rows())


def test_large_baskets_alone_make_no_pairs() -> None:
    rng = np.random.default_rng(3)
    widths = np.where(rng.random(1_500) < 0.15, 18, 2)  # some buy for a shop of their own
    baskets = [set(rng.choice(60, width, replace=False).tolist()) for width in widths]
    found = affinities(orders(baskets).lazy(), ITEMS)
    assert found.pairs.is_empty()
    pairs = [(a, b) for a in range(60) for b in range(a)]
    counts = np.array([[sum({a, b} <= one for one in baskets) for a, b in pairs]])[0]
    sizes = np.array([sum(i in one for one in baskets) for i in range(60)])
    alike = more_often_than_chance(counts, *(sizes[list(side)] for side in zip(*pairs, strict=True)), 1_500)
    assert (false_discovery_rates(alike, len(pairs)) < 0.05).mean() > 0.5  # Fisher's test alone is misled


def test_independent_items_give_nothing_but_rarely() -> None:
    rng = np.random.default_rng(2)
    some = 0
    for _ in range(20):
        baskets = [set(np.flatnonzero(rng.random(25) < 0.1).tolist()) for _ in range(400)]
        some += affinities(orders(baskets).lazy(), ITEMS).pairs.height > 0
    assert some <= 4  # 5 % of 20, where independence holds


@pytest.mark.parametrize("total", [50, 10_000, 40_000_000])
def test_the_tail_is_that_of_scipy(total: int) -> None:
    rng = np.random.default_rng(total)
    a, b = (rng.integers(1, max(2, total // 20), 200) for _ in range(2))
    most = np.minimum(a, b)
    k = np.minimum(most, np.ceil(a * b / total + rng.integers(0, 30, 200)).astype(np.int64))
    expected = np.where(k > a * b / total, stats.hypergeom.sf(k - 1, total, a, b), 1.0)
    np.testing.assert_allclose(more_often_than_chance(k, a, b, total), expected, rtol=2e-6, atol=1e-300)


def test_no_pairs_give_no_values() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert more_often_than_chance(none, none, none, 10).size == 0
    assert false_discovery_rates(np.zeros(0), 0).size == 0
    alone = affinities(orders([{0}, {1}] * 20).lazy(), ITEMS)
    assert alone.pairs.is_empty() and alone.num_tests == 1


def test_impossible_settings_are_refused() -> None:
    rows = orders([{0, 1}]).lazy()
    with pytest.raises(BehaviourError, match="min_baskets is 0"):
        affinities(rows, ITEMS, min_baskets=0)
    with pytest.raises(BehaviourError, match="false discovery rate is 5"):
        affinities(rows, ITEMS, rate=5)
    with pytest.raises(BehaviourError, match="no baskets"):
        affinities(table("events", []).lazy(), ITEMS)
