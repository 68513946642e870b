"""The eigenbasis of a side's Gramian, in which the part of the system that all rows share is diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.launches import (
    gramian_launch,
    jacobi_launch,
    rotate_launch,
    start,
    tile_floats,
    vectors_launch,
)
from shopsight.kernels.cuda.layout import Layout
from shopsight.kernels.cuda.runtime import Device

MAX_SWEEPS = 16  # as in eigen.cu
_ROUGH, _FINE = 2.0**-12, 2.0**-22  # tolerances for |a_pq|, relative to sqrt(a_pp a_qq)


@dataclass(frozen=True)
class Basis:
    """rotation: float32 [f, f] with eigenvectors as columns, or None for the identity.

    spectrum: float32 [f], unobserved_weight times the eigenvalues. span: float32 [f], bounds of the squares
    of the rotated factors, which are the eigenvalues. All arrays are on the device.
    """

    rotation: Any
    spectrum: Any
    span: Any


def eigenbasis(
    device: Device,
    layout: Layout,
    factors: Any,
    unobserved_weight: float,
    gramian: npt.NDArray[np.float64] | None = None,
) -> Basis:
    """Return the eigenbasis of stored factors on the device, or of their Gramian, float64 [f, f] on the host.

    Nothing waits for the device. Jacobi in float32 has an error of about 1e-6 of the largest eigenvalue, too
    much for the smallest ones. So the matrix is rotated again in float64 by the vectors of the first call;
    the second call, on a nearly diagonal matrix, leaves about 1e-7 relative to each pair of eigenvalues.
    """
    xp, f = device.xp, layout.num_factors
    matrix = measure_gramian(device, layout, factors) if gramian is None else xp.asarray(gramian)
    if unobserved_weight == 0:
        span = xp.ascontiguousarray(xp.diagonal(matrix)).astype(np.float32)
        return Basis(None, xp.zeros(f, np.float32), span)
    vectors = xp.eye(f, dtype=np.float64)
    diagonalise(device, layout, matrix, _ROUGH, vectors)
    diagonalise(device, layout, vectors.T @ matrix @ vectors, _FINE, vectors)
    eigenvalues = xp.maximum(((matrix @ vectors) * vectors).sum(axis=0), 0)
    spectrum = (unobserved_weight * eigenvalues).astype(np.float32)
    return Basis(vectors.astype(np.float32), spectrum, eigenvalues.astype(np.float32))


def rotate(device: Device, layout: Layout, factors: Any, rotation: Any, out: Any = None) -> Any:
    """Return `factors @ rotation` (stored rows, float32 [f, f]) in `out` if given, perhaps `factors`."""
    out = device.xp.empty_like(factors) if out is None else out
    launch = rotate_launch(layout)
    start(device, launch, -(-len(factors) // 64), (factors, rotation, out, np.int64(len(factors))))
    return out


def measure_gramian(device: Device, layout: Layout, factors: Any) -> Any:
    """Return factorsᵀ·factors, float64 [f, f], of stored rows: parts in float32, summed in float64."""
    xp = device.xp
    parts = max(1, min(2 * device.num_multiprocessors, len(factors) // 64))
    partial = xp.empty((parts, tile_floats(layout.padded)), np.float32)
    start(device, gramian_launch(layout), parts, (factors, np.int64(len(factors)), partial))
    places = device.constant(("gramian", layout), lambda: tile_places(layout))
    return partial.sum(axis=0, dtype=np.float64)[places]


def tile_places(layout: Layout) -> npt.NDArray[Any]:
    """Return the position of each element (i, j) in the lower tiles (tiles.cuh), int64 [f, f]."""
    i, j = np.indices((layout.num_factors,) * 2)
    row, column = np.maximum(i, j), np.minimum(i, j)
    tile = row // 16 * (row // 16 + 1) // 2 + column // 16
    m, n = row % 16, column % 16
    places: npt.NDArray[Any] = tile * 256 + m * 16 + (((n >> 2) ^ (m >> 1 & 3)) << 2) + (n & 3)
    return places


def diagonalise(device: Device, layout: Layout, matrix: Any, tolerance: float, vectors: Any) -> None:
    """Multiply `vectors`, float64 [f, f], in place by the rotations that make `matrix` [f, f] diagonal."""
    xp, order = device.xp, -(-layout.num_factors // 4) * 4
    rotations = xp.empty((MAX_SWEEPS * (order - 1), order // 2, 2), np.float32)
    num_sweeps = xp.empty(1, np.int32)
    arguments = (xp.ascontiguousarray(matrix), np.float32(tolerance), rotations, num_sweeps)
    start(device, jacobi_launch(layout), 1, arguments)
    start(device, vectors_launch(layout), layout.num_factors, (rotations, num_sweeps, vectors))
