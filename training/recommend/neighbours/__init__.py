"""Item-to-item models: neighbours by common customers, EASE, and counted transitions.

They share one interface (model.py): `fit` learns a weight for each pair of items from histories, `scores` and
`recommend` answer for any histories, also of customers who were not fitted. Nothing in them is random.
"""

from __future__ import annotations

from shopsight.training.recommend.neighbours.ease import EASE
from shopsight.training.recommend.neighbours.histories import Histories
from shopsight.training.recommend.neighbours.knn import ItemKNN
from shopsight.training.recommend.neighbours.transitions import Transitions

__all__ = ["EASE", "Histories", "ItemKNN", "Transitions"]
