"""Clusters linked pairs: connected components, split where a chain would join two different people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Rows = NDArray[np.int64]


def cluster(
    height: int,
    left: Rows,
    right: Rows,
    strength: NDArray[np.float64],
    apart: tuple[Rows, Rows],
) -> Rows:
    """Return a cluster number for each record (numbered by first record).

    `apart` are pairs that cannot be one person. A component that holds such a pair is built again from its
    strongest edges down, and an edge that would bring two of them together is left out.
    """
    labels = _components(height, left, right)
    conflict_left, conflict_right = apart
    inside = labels[conflict_left] == labels[conflict_right]
    if inside.any():
        broken = np.unique(labels[conflict_left[inside]])
        edges = np.isin(labels[left], broken)
        kept = np.ones(left.size, dtype=bool)
        kept[edges] = _forest(
            left[edges],
            right[edges],
            strength[edges],
            conflict_left[inside],
            conflict_right[inside],
        )
        labels = _components(height, left[kept], right[kept])
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    result: Rows = order[numbers]
    return result


def _components(height: int, left: Rows, right: Rows) -> Rows:
    graph = coo_array((np.ones(left.size, dtype=bool), (left, right)), shape=(height, height))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(labels, dtype=np.int64)


def _forest(
    left: Rows, right: Rows, strength: NDArray[np.float64], apart_left: Rows, apart_right: Rows
) -> NDArray[np.bool_]:
    """Which edges join clusters without bringing together what must stay apart (Kruskal, strongest first)."""
    parent: dict[int, int] = {}
    enemies: dict[int, set[int]] = {}

    def root(x: int) -> int:
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for a, b in zip(apart_left.tolist(), apart_right.tolist(), strict=True):
        enemies.setdefault(a, set()).add(b)
        enemies.setdefault(b, set()).add(a)
    kept = np.zeros(left.size, dtype=bool)
    for edge in np.lexsort((right, left, -strength)).tolist():
        a, b = root(int(left[edge])), root(int(right[edge]))
        if a == b:
            kept[edge] = True
            continue
        if any(root(enemy) == b for enemy in enemies.get(a, ())):
            continue
        parent[b] = a
        enemies.setdefault(a, set()).update(enemies.pop(b, ()))
        kept[edge] = True
    return kept
