"""How factors lie in the memory of the GPU (the twin of the constants in chip.cuh)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.cuda.runtime import Device

MAX_FACTORS = 256  # a row's normal matrix of 256 factors still fits in one block's shared memory


@dataclass(frozen=True)
class Layout:
    """As counted, as stored (rows of whole 16-byte loads) and as padded in shared memory (whole warps)."""

    num_factors: int
    bits: int

    @classmethod
    def of(cls, factors: npt.NDArray[Any]) -> Layout:
        """The layout of a float32 or float16 matrix; raises ValueError above 256 factors."""
        if factors.shape[1] > MAX_FACTORS:
            raise ValueError(
                f"factors: {factors.shape[1]} columns, but the cuda kernels take at most {MAX_FACTORS}; "
                "use fewer factors or the cpu backend"
            )
        return cls(factors.shape[1], 8 * factors.dtype.itemsize)

    @property
    def stored(self) -> int:
        return -(-self.num_factors // 8) * 8

    @property
    def padded(self) -> int:
        return -(-self.num_factors // 32) * 32

    @property
    def dtype(self) -> Any:
        return np.float32 if self.bits == 32 else np.float16

    @property
    def defines(self) -> tuple[tuple[str, int], ...]:
        return (("FACTORS", self.num_factors), ("STORAGE", self.bits))


def to_device(device: Device, layout: Layout, factors: npt.NDArray[Any]) -> Any:
    """Factors as the kernels store them: padded with zeros, in the storage type."""
    out = device.xp.zeros((len(factors), layout.stored), layout.dtype)
    out[:, : layout.num_factors] = device.xp.asarray(factors, dtype=layout.dtype)
    return out


def to_host(device: Device, layout: Layout, factors: Any) -> npt.NDArray[Any]:
    """The factors as a NumPy array of the storage type, without the padding. Waits for the device."""
    plain = device.xp.ascontiguousarray(factors[:, : layout.num_factors])
    return np.asarray(plain if device.xp is np else plain.get())
