"""Rows of erased customers leave the routers' data; everybody else's stay theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from shopsight.serving.contract import ModelContract
from shopsight.training.privacy.artefacts import erase_people, without_rows
from tests.serving.tiny_models import KEY, TinyShop


def test_every_other_customer_keeps_factors_list_and_pseudonym(tmp_path: Path) -> None:
    shop = TinyShop(seed=2)
    folder = shop.write(tmp_path) / "recommend"
    gone = [0, 7, 39]
    pseudonyms = [KEY.pseudonym("web", f"w{i}") for i in gone[:2]]  # the third goes with the customer
    assert erase_people(folder, [shop.customer_ids[i] for i in gone], pseudonyms) == 6
    ModelContract.read(folder).verify_files(folder)
    customers, identities = (load_file(folder / f"{n}.safetensors") for n in ("customers", "identities"))
    left = [i for i in range(shop.num_customers) if i not in gone]
    assert [bytes(row).decode() for row in customers["customer_id"]] == [shop.customer_ids[i] for i in left]
    np.testing.assert_array_equal(customers["user_factor"], shop.user_factor[left])
    np.testing.assert_array_equal(customers["segment"], shop.customer_segment[left])
    for row, i in enumerate(left):
        begin, end = customers["seen_indptr"][row : row + 2]
        np.testing.assert_array_equal(customers["seen_item"][begin:end], shop.seen[i])
    pairs = zip(identities["pseudonym"], identities["customer_row"], strict=True)
    found = {bytes(pseudonym).decode(): int(row) for pseudonym, row in pairs}
    expected = {KEY.pseudonym("web", f"w{i}"): row for row, i in enumerate(left)}
    assert found == expected | {KEY.pseudonym("web", "lost"): -1}


def test_nobody_to_erase_leaves_the_very_bytes(tmp_path: Path) -> None:
    folder = TinyShop(seed=2).write(tmp_path) / "profile"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert erase_people(folder, ["c9999", "a-name-longer-than-any-id"], ["f" * 32]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_last_customer_can_be_erased(tmp_path: Path) -> None:
    shop = TinyShop(seed=2)
    folder = shop.write(tmp_path) / "profile"
    assert erase_people(folder, shop.customer_ids, []) == 2 * shop.num_customers
    assert load_file(folder / "customers.safetensors")["feature"].shape == (0, shop.num_features)
    assert load_file(folder / "identities.safetensors")["customer_row"].tolist() == [-1]


def test_an_array_that_is_not_one_row_a_customer_is_refused() -> None:
    with pytest.raises(ValueError, match="array odd has 2 rows, expected one a customer: 3"):
        without_rows({"odd": np.zeros(2)}, np.ones(3, dtype=np.bool_))
