"""What an example knows: its customer's past, nothing of its own moment; and what it is told from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shopsight.training.recommend.embedding.config import LoopConfig
from shopsight.training.recommend.embedding.examples import Examples, Features, write_examples
from shopsight.training.recommend.embedding.inputs import Inputs
from shopsight.training.recommend.embedding.item_store import restored, stored
from shopsight.training.recommend.embedding.negatives import drawn, log_expected, sampled_softmax
from tests.training.recommend.embedding.small import FEATURES, tastes


def _written(folder: Path, **more: Any) -> Examples:
    events: dict[str, Any] = {
        "customer": np.array([1, 0, 1, 1, 0, 1]),
        "item": np.array([5, 0, 6, 7, 1, 8]),
        "time": np.array([10, 10, 10, 20, 30, 30]) * 3_600_000_000,
        "is_target": np.array([True, True, True, True, False, True]),
    }
    write_examples(
        folder,
        **(events | more),
        item_ids=[str(number) for number in range(10)],
        customer_features=Features.none(3),
        item_features=Features.none(10),
        item_buckets=2,
    )
    return Examples.open(folder)


def test_a_history_ends_before_its_own_moment_and_at_its_own_customer(tmp_path: Path) -> None:
    examples = _written(tmp_path / "e")
    assert examples.item.tolist() == [0, 1, 5, 6, 7, 8]
    histories = [
        examples.item[begin:end].tolist() for begin, end in zip(examples.begin, examples.until, strict=True)
    ]
    assert histories == [[], [0], [], [], [5, 6], [5, 6, 7]]
    assert examples.target.tolist() == [0, 2, 3, 4, 5]
    assert examples.end.tolist() == [0, 2, 6, 6]


def test_a_gap_keeps_what_came_shortly_before_out(tmp_path: Path) -> None:
    examples = _written(tmp_path / "e", gap_hours=10.0)
    histories = [
        examples.item[begin:end].tolist() for begin, end in zip(examples.begin, examples.until, strict=True)
    ]
    assert histories == [[], [0], [], [], [], [5, 6]]


def test_items_without_events_share_buckets_and_the_others_have_rows(tmp_path: Path) -> None:
    examples = _written(tmp_path / "e")
    touched = [0, 1, 5, 6, 7, 8]
    assert examples.item_row[touched].tolist() == touched
    assert set(examples.item_row[[2, 3, 4, 9]].tolist()) <= {10, 11}
    assert examples.item_count.tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1, 0]


def test_a_code_outside_its_table_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="country: row 1 has code 3, the table has 3 rows"):
        Features(("country",), (3,), np.array([[2], [3]], dtype=np.int32))


def test_what_is_hidden_depends_on_place_and_key_and_not_on_the_share(tmp_path: Path) -> None:
    examples = tastes(tmp_path / "t")
    inputs = Inputs(examples, FEATURES)
    users = np.arange(len(examples.end) - 1)
    begin, end = examples.end[:-1], examples.end[1:]
    whole = inputs.customers(begin, end, users, len(users), key=7)["history"].to_dense()
    half = inputs.customers(begin[30:], end[30:], users[30:], 40, key=7)["history"].to_dense()
    assert [row.tolist() for row in whole[30:]] == [row.tolist() for row in half[:30]]
    assert all(not len(row) for row in half[30:])
    plain = inputs.customers(begin, end, users, len(users))["history"].to_dense()
    changed = torch.cat(whole) != torch.cat(plain)
    assert 0.02 < changed.double().mean() < 0.25
    assert (torch.cat(whole)[changed] >= examples.schema.num_items).all()


def test_corrected_candidates_weigh_together_what_the_whole_catalogue_weighs() -> None:
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=50).astype(np.float32))
    count = rng.integers(1, 200, 50)
    log_q = torch.from_numpy(log_expected(count, 64, 64))
    weights = []
    for step in range(300):
        ids = np.concatenate([[3], rng.choice(50, 64, p=count / count.sum()), drawn(50, 64, 0, step)])
        candidates = torch.from_numpy(ids)
        logits = scores[candidates][None]
        loss = sampled_softmax(logits, candidates, torch.tensor([0]), log_q[candidates], 1.0)
        weights.append(float(torch.exp(loss + scores[3] - log_q[3])))
    # the own item comes in once instead of as often as it is expected, the others as they are popular
    own = float(torch.exp(scores[3]))
    wanted = float(torch.exp(scores).sum()) - own + own / float(torch.exp(log_q[3]))
    assert np.mean(weights) == pytest.approx(wanted, rel=0.02)


def test_the_same_item_in_another_column_is_no_negative() -> None:
    ids = torch.tensor([4, 2, 4])
    logits = torch.tensor([[0.0, 0.0, 9.0]])
    loss = sampled_softmax(logits, ids, torch.tensor([0]), torch.zeros(3), 1.0)
    assert float(loss) == pytest.approx(np.log(2))


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 0.0), ("float16", 5e-4), ("int8", 4e-3)])
def test_stored_vectors_come_back_as_near_as_their_storage_allows(dtype: str, limit: float) -> None:
    vectors = np.random.default_rng(0).uniform(-1, 1, (30, 8)).astype(np.float32)
    kept, scale = stored(vectors, dtype)
    assert kept.dtype == np.dtype(dtype)
    assert np.abs(restored(kept, scale) - vectors).max() <= limit


def test_settings_that_could_not_be_gone_on_from_are_refused() -> None:
    with pytest.raises(ValueError, match="another number of workers cannot read"):
        LoopConfig(embedding_optimizer="rowwise_adagrad")
    LoopConfig(embedding_optimizer="rowwise_adagrad", sharding=("row_wise",))
    with pytest.raises(ValueError, match="sharding"):
        LoopConfig(sharding=("data_parallel",))
