"""The layout of factors in GPU memory; it must agree with the constants in chip.cuh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.runtime import Device

MAX_FACTORS = 256  # of an A100, H100 or B200; launches.py knows what smaller chips take
_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


@dataclass(frozen=True)
class Layout:
    """The number of factors and their storage type, "float32", "float16" or "bfloat16".

    `stored` is the row length in global memory, whole 16-byte loads; `padded` that in shared memory, whole
    warps. bfloat16 is passed to array modules as uint16, because they need not support it.
    """

    num_factors: int
    storage: str

    @classmethod
    def of(cls, factors: npt.NDArray[Any]) -> Layout:
        """Return the layout of a matrix in one of the three types; raises ValueError above 256 factors."""
        if factors.shape[1] > MAX_FACTORS:
            raise ValueError(
                f"factors: {factors.shape[1]} columns, but the cuda kernels take at most {MAX_FACTORS}; "
                "use fewer factors or the cpu backend"
            )
        return cls(factors.shape[1], factors.dtype.name)

    @property
    def bits(self) -> int:
        return _BITS[self.storage]

    @property
    def stored(self) -> int:
        return -(-self.num_factors // 8) * 8

    @property
    def padded(self) -> int:
        return -(-self.num_factors // 32) * 32

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint16) if self.storage == "bfloat16" else np.dtype(self.storage)

    @property
    def defines(self) -> tuple[tuple[str, int], ...]:
        return (
            ("FACTORS", self.num_factors),
            ("STORAGE", self.bits),
            ("BFLOAT16", int(self.storage == "bfloat16")),
        )


def to_device(device: Device, layout: Layout, factors: npt.NDArray[Any]) -> Any:
    """Return factors [rows, stored] on the device, padded with zeros, in the storage type."""
    out = device.xp.zeros((len(factors), layout.stored), layout.dtype)
    out[:, : layout.num_factors] = device.xp.asarray(factors.view(layout.dtype))
    return out


def to_host(device: Device, layout: Layout, factors: Any) -> npt.NDArray[Any]:
    """Return factors as a NumPy array [rows, f] in the storage type. Waits for the device."""
    plain = device.xp.ascontiguousarray(factors[:, : layout.num_factors])
    found = np.asarray(plain if device.xp is np else plain.get())
    if layout.storage == "bfloat16":
        import ml_dtypes

        return found.view(ml_dtypes.bfloat16)
    return found


def to_float32(layout: Layout, factors: Any) -> Any:
    """Return stored factors as float32 [rows, f] on the device."""
    plain = factors[:, : layout.num_factors]
    if layout.storage == "bfloat16":
        return (plain.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return plain.astype(np.float32)


def all_finite(device: Device, layout: Layout, factors: Any) -> Any:
    """Return for each stored row whether all its factors are finite, bool [rows] on the device."""
    if layout.storage == "bfloat16":
        return ((factors & np.uint16(0x7F80)) != np.uint16(0x7F80)).all(axis=1)
    return device.xp.isfinite(factors).all(axis=1)
