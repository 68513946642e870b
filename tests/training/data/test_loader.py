"""Columns come back as written, every example comes once an epoch, and shares add up to the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shopsight.serving.safetensors_layout import TensorFileError
from shopsight.training.data.column_files import (
    COLUMNS_FILE,
    Order,
    Share,
    latest,
    map_columns,
    write_columns,
)


def test_columns_of_any_length_are_mapped_as_they_were_written(tmp_path: Path) -> None:
    columns = {
        "item": np.arange(5, dtype=np.int32),
        "time": np.array([2**40], dtype=np.int64),
        "nobody": np.empty((0, 3), dtype=np.int32),
    }
    write_columns(tmp_path / "c", columns)
    mapped = map_columns(tmp_path / "c")
    for name, column in columns.items():
        np.testing.assert_array_equal(mapped[name], column)
        assert mapped[name].dtype == column.dtype and not mapped[name].flags.writeable


def test_columns_that_are_cut_off_are_refused_by_name(tmp_path: Path) -> None:
    write_columns(tmp_path / "c", {"item": np.arange(100)})
    path = tmp_path / "c" / COLUMNS_FILE
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(TensorFileError, match=r"columns\.safetensors: .*tensor 'item' is cut off"):
        map_columns(tmp_path / "c")


@pytest.mark.parametrize("num", [1, 2, 3, 16, 17, 1000, 4097])
def test_an_epoch_visits_every_example_once_in_batches_of_nearly_one_size(num: int) -> None:
    order = Order(num, 7, seed=3, epoch=1)
    batches = [order.batch(step) for step in range(order.num_steps)]
    assert sorted(np.concatenate(batches)) == list(range(num))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= 7 and max(sizes) - min(sizes) <= 1


def test_orders_differ_by_seed_and_epoch_and_show_no_trend() -> None:
    def whole(seed: int, epoch: int) -> np.ndarray:
        return Order(5000, 5000, seed, epoch).batch(0)

    first = whole(0, 0)
    np.testing.assert_array_equal(first, whole(0, 0))
    for other in (whole(1, 0), whole(0, 1)):
        assert (first == other).mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize(("num", "workers"), [(10, 3), (2, 3), (0, 2), (7, 7), (100, 8)])
def test_shares_are_disjoint_complete_and_differ_by_at_most_one(num: int, workers: int) -> None:
    shares = [Share(rank, workers) for rank in range(workers)]
    taken = [place for share in shares for place in range(*share.bounds(num))]
    assert taken == list(range(num))
    sizes = shares[0].sizes(num)
    assert sizes == [end - begin for begin, end in (share.bounds(num) for share in shares)]
    assert max(sizes) - min(sizes) <= 1 and max(sizes) == shares[0].most(num)


def test_the_latest_places_of_each_row_come_in_their_order() -> None:
    places, lengths = latest(np.array([0, 4, 4, 9]), np.array([4, 4, 9, 10]), most=3)
    assert places.tolist() == [1, 2, 3, 6, 7, 8, 9]
    assert lengths.tolist() == [3, 0, 3, 1]
