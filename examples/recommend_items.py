"""Fit a factorisation to who bought what, recommend, explain an item, fold in a newcomer.

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

model = MatrixFactorization(MFConfig(num_factors=4, num_epochs=10))
model.fit(user_items)

items, scores = model.recommend([0, 1], k=5)
for user, found, score in zip((0, 1), items, scores, strict=True):
    print(f"user {user}: items {found.tolist()}, scores {np.round(score, 3).tolist()}")
score, reasons = model.explain(0, int(items[0, 0]), num_reasons=2)
print(
    f"item {items[0, 0]} for user 0, score {score:.3f}: most of it from items {[item for item, _ in reasons]}"
)

newcomer = csr_matrix(([1.0, 1.0], ([0, 0], [25, 31])), shape=(1, 40), dtype=np.float32)
best = np.argsort(-model.predict_new(newcomer)[0])[:5]
print(f"who bought items 25 and 31 gets {best.tolist()}")

own = (best >= 20).all() and (items[0] < 20).all() and (items[1] >= 20).all()
assert own, "each circle gets its own items"
