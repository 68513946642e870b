"""Images become the batches that Pillow would make of them; files that are none are named and set aside."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from shopsight.training.data.images import ImageConfig, image_batches, screen

pytest.importorskip("nvidia.dali", reason="DALI is not installed")


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    smooth = rng.random((5, 7, 3)).repeat(16, 0).repeat(16, 1)
    whole = Image.fromarray((255 * smooth).astype(np.uint8))
    files = {
        "colour.jpg": whole,
        "grey.jpg": whole.convert("L"),
        "alpha.png": whole.convert("RGBA"),
        "tall.png": whole.resize((31, 200)),
        "dot.png": whole.resize((1, 1)),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    return [tmp_path / name for name in files]


def by_pillow(path, config):
    with Image.open(path) as image:
        small = image.convert("RGB").resize((config.size, config.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float64) / 255
    return ((pixels - config.mean) / config.std).transpose(2, 0, 1)


def test_pixels_are_those_of_pillow(pictures):
    config = ImageConfig(size=32)
    batches = list(image_batches(pictures, config, batch_size=2, backend="cpu"))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for path, ours in zip(pictures, np.concatenate(batches), strict=True):
        difference = np.abs(ours - by_pillow(path, config)) * np.array(config.std)[:, None, None] * 255
        assert difference.max() <= 3, f"{path.name}: {difference.max()} of 255"


def test_an_augmented_batch_is_another_look_at_the_same_images_and_the_seed_decides_it(pictures):
    looks = [
        next(image_batches(pictures, ImageConfig(size=16, augment=True, seed=seed), 8, backend="cpu")).numpy()
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(looks[0], looks[1])
    assert not np.array_equal(looks[0], looks[2])
    plain = next(image_batches(pictures, ImageConfig(size=16), 8, backend="cpu")).numpy()
    assert np.abs(looks[0][:3].mean(axis=(2, 3)) - plain[:3].mean(axis=(2, 3))).max() < 0.5


def test_files_that_are_no_images_are_named_with_their_reason(pictures, tmp_path):
    whole = pictures[0].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    given = [pictures[0], tmp_path / "cut.jpg", tmp_path / "none.jpg", tmp_path / "text.jpg",
             tmp_path / "empty.png", tmp_path, pictures[2]]  # fmt: skip
    found = screen(given)
    assert found.positions.tolist() == [0, 6] and found.paths == [pictures[0], pictures[2]]
    reasons = {path.name: reason for _, path, reason in found.refused}
    assert reasons == {
        "cut.jpg": "cut_off",
        "none.jpg": "missing",
        "text.jpg": "not_an_image",
        "empty.png": "not_an_image",
        tmp_path.name: "not_an_image",
    }
    assert len(next(image_batches(found.paths, ImageConfig(size=8), 8, backend="cpu"))) == 2


def test_no_image_gives_no_batch():
    assert list(image_batches([], ImageConfig(), 4)) == []
