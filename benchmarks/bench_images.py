"""Product images to normalised batches: DALI beside a DataLoader of two workers with Pillow, the same pixels.

And padded sequences: `fn.pad` of DALI beside padding in NumPy, which is what our loaders do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.datasets import SHARED
from benchmarks.runner import Report, interleave
from shopsight.training.data.images import ImageConfig, image_batches, screen

BATCH, WORKERS = 32, 2
SIZES = (64, 224)
PASSES = 3  # over the set in one round, as epochs follow each other
MOST_DIFFERENCE = (
    3.0  # of 255, in 999 of 1,000 values: decoding is equal to the bit, resizing rounds elsewhere
)
SEQUENCES, LONGEST, SEQUENCE_BATCH = 65_536, 200, 1024


class Pictures(Dataset[torch.Tensor]):
    """What one writes by hand: open, convert, resize, normalise."""

    def __init__(self, paths: list[Path], config: ImageConfig) -> None:
        self._paths, self._config = paths, config
        self._mean = np.array(config.mean, np.float32)
        self._std = np.array(config.std, np.float32)

    def __len__(self) -> int:
        return PASSES * len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._paths[index % len(self._paths)]) as image:
            side = self._config.size
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float32) / 255
        return torch.from_numpy(((pixels - self._mean) / self._std).transpose(2, 0, 1).copy())


def run(report: Report) -> None:
    """Images where the set is at hand, then sequences."""
    paths = sorted((SHARED / "clothing_images").rglob("*.jpg"))
    if paths:
        found = screen(paths)
        report.say(f"{len(found.paths)} images, {len(found.refused)} set aside")
        for size in SIZES:
            images(report, found.paths, ImageConfig(size=size))
    else:
        report.say("clothing_images is not at hand: left out")
    sequences(report)


def images(report: Report, paths: list[Path], config: ImageConfig) -> None:
    """Rows of one size."""
    difference = _difference(paths, config)
    assert difference["p99"] <= MOST_DIFFERENCE, f"pixels differ by {difference} of 255"
    variants = {
        "dali": lambda: _drain(image_batches(paths * PASSES, config, BATCH)),
        "pillow": lambda: _drain(
            DataLoader(
                Pictures(paths, config), BATCH, num_workers=WORKERS, multiprocessing_context="forkserver"
            )
        ),
        "pillow, forked": lambda: _drain(DataLoader(Pictures(paths, config), BATCH, num_workers=WORKERS)),
    }
    seconds = interleave(variants, budget_seconds=90)
    for name, peer in (("pillow", "spawned"), ("pillow, forked", "forked")):
        report.add_times(
            f"{PASSES * len(paths):,} images to {config.size} x {config.size}, dali",
            f"DataLoader with PIL, {WORKERS} {peer} workers",
            seconds["dali"],
            seconds[name],
            rounds=len(seconds["dali"]),
            images_a_second=PASSES * len(paths) / float(np.median(seconds["dali"])),
            their_images_a_second=PASSES * len(paths) / float(np.median(seconds[name])),
            difference_of_255=difference,
        )


def sequences(report: Report) -> None:
    """Histories of skewed lengths to padded int64 batches."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(LONGEST, 1 + rng.geometric(0.05, SEQUENCES))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = rng.integers(1, 50_000, offsets[-1])
    np.testing.assert_array_equal(
        np.concatenate([b.ravel() for b in _padded_by_numpy(values, offsets)]),
        np.concatenate([b.ravel() for b in _padded_by_dali(values, offsets)]),
    )
    variants = {
        "numpy": lambda: _drain(_padded_by_numpy(values, offsets)),
        "dali": lambda: _drain(_padded_by_dali(values, offsets)),
    }
    seconds = interleave(variants, budget_seconds=60)
    report.add_times(
        f"{SEQUENCES:,} histories padded, numpy (what we use)",
        "dali fn.pad",
        seconds["numpy"],
        seconds["dali"],
    )


def _difference(paths: list[Path], config: ImageConfig) -> dict[str, float]:
    ours = torch.cat(list(image_batches(paths, config, BATCH)))
    theirs = Pictures(paths, config)
    scale = 255 * torch.tensor(config.std)[:, None, None]
    apart = np.concatenate([((p - theirs[i]).abs() * scale).numpy().ravel() for i, p in enumerate(ours)])
    return {
        "mean": float(apart.mean()),
        "p99": float(np.quantile(apart, 0.99)),
        "largest": float(apart.max()),
    }


def _padded_by_numpy(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Iterator[Any]:
    for first in range(0, SEQUENCES, SEQUENCE_BATCH):
        bounds = offsets[first : first + SEQUENCE_BATCH + 1]
        lengths = np.diff(bounds)
        padded = np.zeros((len(lengths), int(lengths.max())), np.int64)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = values[bounds[0] : bounds[-1]]
        yield padded


def _padded_by_dali(values: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any]) -> Iterator[Any]:
    from nvidia.dali import fn, pipeline_def

    @pipeline_def(batch_size=SEQUENCE_BATCH, num_threads=WORKERS, device_id=None)  # type: ignore[untyped-decorator]
    def define() -> Any:
        return fn.pad(fn.external_source(name="rows"), fill_value=0)

    pipeline = define(prefetch_queue_depth=1)
    pipeline.build()
    for first in range(0, SEQUENCES, SEQUENCE_BATCH):
        bounds = offsets[first : first + SEQUENCE_BATCH + 1]
        pipeline.feed_input("rows", np.split(values[bounds[0] : bounds[-1]], bounds[1:-1] - bounds[0]))
        yield pipeline.run()[0].as_array()


def _drain(batches: Any) -> int:
    return sum(len(batch) for batch in batches)
