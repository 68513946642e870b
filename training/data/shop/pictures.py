"""Pictures of the items: what one looks like is its style, which decides who likes it within a category."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shopsight.training.data.shop.catalogue import LATENT, Catalogue

FOLDER = "pictures"
SIZE = 48
_GRID = (np.arange(SIZE) + 0.5) / SIZE - 0.5


def write_pictures(catalogue: Catalogue, raw_dir: Path, rng: np.random.Generator) -> list[str]:
    """Write a PNG of SIZE x SIZE an item and return their paths below `raw_dir`, in the catalogue's order."""
    (raw_dir / FOLDER).mkdir()
    names = [f"{FOLDER}/{sku}.png" for sku in catalogue.frame["sku"]]
    for name, style in zip(names, catalogue.style, strict=True):
        Image.fromarray(draw(style, rng)).save(raw_dir / name)
    return names


def draw(style: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an item of a style [LATENT] as uint8 [SIZE, SIZE, 3].

    The style decides, in its order: how bright the ground is, how fine its stripes are and how they run, how
    large the disk on it is and of what colour, and how strong the stripes are. Noise and the disk's place say
    nothing.
    """
    bright, fine, turn, large, hue, strong = 1 / (1 + np.exp(-np.sqrt(LATENT) * style))
    x, y = np.meshgrid(_GRID, _GRID)
    angle = 0.1 + 0.8 * np.pi * turn
    wave = np.sin(2 * np.pi * (2 + 6 * fine) * (x * np.cos(angle) + y * np.sin(angle)))
    ground = 0.25 + 0.5 * bright + 0.22 * strong * wave
    picture = np.repeat(ground[:, :, None], 3, axis=2)
    left, top = rng.uniform(-0.12, 0.12, 2)
    disk = (x - left) ** 2 + (y - top) ** 2 < (0.1 + 0.25 * large) ** 2
    picture[disk] = [0.15 + 0.8 * hue, 0.35, 0.95 - 0.8 * hue]
    picture += rng.normal(0, 0.03, picture.shape)
    return np.asarray((255 * np.clip(picture, 0, 1)).round(), dtype=np.uint8)
