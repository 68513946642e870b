"""What people say of a pair is kept, obeyed by later runs, and goes when a customer is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from serving.pseudonym import PseudonymKey
from training.data.customer_ids import changes
from training.data.identity import Resolution, resolve
from training.data.identity_review import (
    JOINS_FILE,
    ReviewError,
    add_rule,
    erase_rules,
    read_joins,
    read_rules,
    write_private,
)
from training.data.tables import SCHEMAS

KEY = PseudonymKey("test", b"k" * 32)
NOTHING = pl.DataFrame(schema=SCHEMAS["identities"])
NO_SEEN = pl.DataFrame(
    schema={"source": pl.String, "source_id": pl.String, "first_seen": pl.Datetime("us", "UTC")}
)
ACCOUNTS = pl.DataFrame(
    {
        "source": ["web", "app", "app"],
        "source_id": ["W1", "A1", "A2"],
        "full_name": ["Anna Abel", "A. Abel", "Boris Brandt"],
        "email": ["anna@x.example", "anna@x.example", "boris@x.example"],
        "registered_at": [datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 3)],
    }
)


def run(folder: Path, previous: pl.DataFrame = NOTHING) -> Resolution:
    found = resolve(ACCOUNTS, NO_SEEN, previous, KEY, rules=read_rules(folder, KEY))
    write_private(folder / JOINS_FILE, found.joins)
    return found


def test_a_pair_said_apart_is_split_by_every_later_run_and_joined_again_when_said_so(tmp_path: Path) -> None:
    first = run(tmp_path)
    (pair,) = read_joins(tmp_path, KEY).iter_rows(named=True)
    assert pair["rule"] == "email" and "email the same" in pair["evidence"]
    assert "given similar" in pair["evidence"] and not {"W1", "A1"} & set(map(str, pair.values()))
    add_rule(tmp_path, KEY, [pair["pair"]], "apart")
    second = run(tmp_path, first.identities)
    assert (first.num_customers, second.num_customers, second.num_split) == (2, 3, 1)
    assert changes(second.identities)["change"].to_list() == ["split"]
    third = run(tmp_path, second.identities)
    assert third.identities.equals(second.identities), "the rule holds and ids stay"
    add_rule(tmp_path, KEY, [pair["pair"]], "same")
    assert read_rules(tmp_path, KEY)["verdict"].to_list() == ["same"]
    again = run(tmp_path, third.identities)
    assert again.num_customers == 2 and again.num_merged == 1
    assert (tmp_path / JOINS_FILE).stat().st_mode & 0o077 == 0


def test_an_unknown_pair_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ReviewError, match="0000000000: no such pair"):
        add_rule(tmp_path, KEY, ["0000000000"], "apart")
    assert read_rules(tmp_path, KEY).is_empty()


def test_rules_go_with_the_forgotten(tmp_path: Path) -> None:
    run(tmp_path)
    add_rule(tmp_path, KEY, read_joins(tmp_path, KEY)["pair"].to_list(), "apart")
    assert erase_rules(tmp_path, {("web", KEY.pseudonym("web", "W1"))}, KEY) == 2
    assert read_rules(tmp_path, KEY).is_empty() and read_joins(tmp_path, KEY).is_empty()
