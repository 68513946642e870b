"""Product images to float batches with DALI: decode, resize, augment, normalise; unreadable files set aside.

One pipeline for the CPU and, where kernels/backend.py finds a GPU, for the GPU (decoding by nvJPEG).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from shopsight.kernels.backend import resolve

_MOST_PIXELS = 64_000_000  # a product image with more is a mistake or an attack
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # what both decoders read


class ImagesError(RuntimeError):
    """Images cannot be loaded here; the message names what is missing and the remedy."""


@dataclass(frozen=True)
class ImageConfig:
    """What a batch looks like.

    size: pixels of each side; an image is stretched to it. mean, std: of the channels, of pixels from 0 to 1.
    augment: a random part (at least `least_area` of the image) and a random mirroring, drawn from `seed`.
    """

    size: int = 64
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    augment: bool = False
    least_area: float = 0.6
    seed: int = 0


@dataclass(frozen=True)
class Screened:
    """Paths that decode, and the others with their reasons; positions are those of the list given."""

    paths: list[Path]
    positions: NDArray[np.int64]
    refused: list[tuple[int, Path, str]]


def screen(paths: Sequence[Path]) -> Screened:
    """Decode every image once and set aside what is no whole image: a decoder on a GPU would stop at it.

    Reasons: missing, not_an_image, cut_off, too_large.
    """
    with ThreadPoolExecutor(resolve("cpu").num_threads) as pool:
        faults = list(pool.map(_fault, paths))
    good = [i for i, fault in enumerate(faults) if fault is None]
    refused = [(i, paths[i], fault) for i, fault in enumerate(faults) if fault is not None]
    return Screened([paths[i] for i in good], np.array(good, dtype=np.int64), refused)


def image_batches(
    paths: Sequence[Path], config: ImageConfig, batch_size: int, backend: str = "auto"
) -> Iterator[torch.Tensor]:
    """Yield float32 [n, 3, size, size] in the order of `paths`, n = batch_size but for the last.

    Grey images get three channels, transparency is dropped. The paths must have passed `screen`. On a GPU
    the batches lie there. Raises ImagesError where DALI is not installed.
    """
    if not len(paths):
        return
    device = resolve(backend).name
    pipeline = _pipeline(paths, config, min(batch_size, len(paths)), device)
    pipeline.build()
    for first in range(0, len(paths), batch_size):
        (pixels,) = pipeline.run()
        batch = torch.utils.dlpack.from_dlpack(pixels.as_tensor())[: len(paths) - first]
        yield batch.clone()  # the pipeline writes the next batch into the same memory


def _fault(path: Path) -> str | None:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                return "too_large"
            image.load()
    except FileNotFoundError:
        return "missing"
    except Image.DecompressionBombError:
        return "too_large"
    except (UnidentifiedImageError, IsADirectoryError):
        return "not_an_image"
    except (
        OSError,
        SyntaxError,
        ValueError,
    ):  # what Pillow raises for damaged files of the different formats
        return "cut_off"
    return None


def _pipeline(paths: Sequence[Path], config: ImageConfig, batch_size: int, device: str) -> Any:
    try:
        dali = importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise ImagesError("nvidia-dali is not installed; remedy: pip install 'shopsight[images]'") from error
    fn: Any = importlib.import_module("nvidia.dali.fn")
    types: Any = importlib.import_module("nvidia.dali.types")
    on_gpu = device == "cuda"

    def define() -> Any:
        encoded, _ = fn.readers.file(files=[str(path) for path in paths], pad_last_batch=True, name="files")
        decoded = fn.decoders.image(encoded, device="mixed" if on_gpu else "cpu", output_type=types.RGB)
        mirror: Any = 0
        if config.augment:
            decoded = fn.random_resized_crop(
                decoded,
                size=(config.size, config.size),
                random_area=[config.least_area, 1.0],
                interp_type=types.INTERP_TRIANGULAR,
                seed=config.seed,
            )
            mirror = fn.random.coin_flip(seed=config.seed + 1)
        else:
            # Pillow's "bilinear": each source pixel counts, whatever the factor.
            decoded = fn.resize(
                decoded, size=(config.size, config.size), interp_type=types.INTERP_TRIANGULAR, antialias=True
            )
        return fn.crop_mirror_normalize(
            decoded,
            dtype=types.FLOAT,
            output_layout="CHW",
            mean=[255 * m for m in config.mean],
            std=[255 * s for s in config.std],
            mirror=mirror,
        )

    make: Any = dali.pipeline_def(
        define,
        batch_size=batch_size,
        num_threads=resolve("cpu").num_threads,
        device_id=0 if on_gpu else None,
        seed=config.seed,
    )
    return make()
