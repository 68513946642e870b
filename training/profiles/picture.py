"""Where customers lie on a plane: UMAP draws it where it is installed, else the first two components do."""

from __future__ import annotations

import numpy as np

from shopsight.kernels.backend import umap
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.scaling import Float32

_NEIGHBOURS = 15
UMAP, PCA = "UMAP", "the first two principal components"


def draw(points: Float32, config: ProfilesConfig) -> tuple[Float32, str]:
    """Return a place for each point, float32 [n, 2], and what placed them; points float32 [n, c].

    A picture only: nothing served or decided rests on it. UMAP (McInnes, Healy, Melville, 2018) keeps
    neighbours together; distances between far groups mean little in it.
    """
    estimator = umap() if config.draw_umap and len(points) > _NEIGHBOURS else None
    if estimator is None:
        flat = np.zeros((len(points), 2), dtype=np.float32)
        flat[:, : points.shape[1]] = points[:, :2]
        return flat, PCA
    fitted = estimator(n_neighbors=_NEIGHBOURS, n_components=2, min_dist=0.1, random_state=config.seed)
    return np.asarray(fitted.fit_transform(points), dtype=np.float32), UMAP
