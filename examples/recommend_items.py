"""Fit a factorisation to who bought what, recommend, explain, fold in a newcomer.

Run it from anywhere: python examples/recommend_items.py
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from shopsight import MatrixFactorization, MFConfig

# 200 customers in two circles of taste; each buys eight of the twenty items of their circle.
rng = np.random.default_rng(0)
rows = np.repeat(np.arange(200), 8)
columns = np.concatenate([rng.choice(20, 8, replace=False) + 20 * (user % 2) for user in range(200)])
user_items = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(200, 40))

model = MatrixFactorization(MFConfig(factors=16, iterations=10))
model.fit(user_items)

items, scores = model.recommend([0, 1], k=5)
for user, found, score in zip((0, 1), items, scores, strict=True):
    print(f"user {user}: items {found.tolist()}, scores {np.round(score, 3).tolist()}")
assert (items[0] < 20).all() and (items[1] >= 20).all(), "each circle gets its own items"
