"""How factors lie in the memory of the GPU (the twin of the constants in chip.cuh)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopsight.kernels.cuda.runtime import Device

MAX_FACTORS = 256  # a row's normal matrix of 256 factors still fits in one block's shared memory
_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


@dataclass(frozen=True)
class Layout:
    """As counted, as stored (rows of whole 16-byte loads) and as padded in shared memory (whole warps).

    `storage` is "float32", "float16" or "bfloat16"; array modules need not know the last: its 16 bits travel
    as uint16.
    """

    num_factors: int
    storage: str

    @classmethod
    def of(cls, factors: npt.NDArray[Any]) -> Layout:
        """The layout of a matrix in one of the three types; raises ValueError above 256 factors."""
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
    """Factors as the kernels store them: padded with zeros, in the storage type."""
    out = device.xp.zeros((len(factors), layout.stored), layout.dtype)
    out[:, : layout.num_factors] = device.xp.asarray(factors.view(layout.dtype))
    return out


def to_host(device: Device, layout: Layout, factors: Any) -> npt.NDArray[Any]:
    """The factors as a NumPy array of the storage type, without the padding. Waits for the device."""
    plain = device.xp.ascontiguousarray(factors[:, : layout.num_factors])
    found = np.asarray(plain if device.xp is np else plain.get())
    if layout.storage == "bfloat16":
        import ml_dtypes

        return found.view(ml_dtypes.bfloat16)
    return found


def to_float32(layout: Layout, factors: Any) -> Any:
    """Stored factors on the device as float32, without the padding."""
    plain = factors[:, : layout.num_factors]
    if layout.storage == "bfloat16":
        return (plain.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return plain.astype(np.float32)


def all_finite(device: Device, layout: Layout, factors: Any) -> Any:
    """For each stored row on the device whether all its factors are finite."""
    if layout.storage == "bfloat16":
        return ((factors & np.uint16(0x7F80)) != np.uint16(0x7F80)).all(axis=1)
    return device.xp.isfinite(factors).all(axis=1)
