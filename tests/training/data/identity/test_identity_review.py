"""What people say of a pair is kept, obeyed by later runs, and goes when a customer is forgotten."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, PseudonymKey
from shopsight.training.cli.identity import app
from shopsight.training.data.identity.accounts import account_pairs
from shopsight.training.data.identity.customer_ids import changes
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.identity.review import JOINS_FILE, erase_pairs, listed_pairs, read_joins
from shopsight.training.data.identity.rules import (
    RuleError,
    keep_rules,
    read_rules,
    withdraw_rules,
    write_private,
)
from shopsight.training.data.tables import SCHEMAS, write_tables

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


def say(folder: Path, names: list[str], verdict: str) -> None:
    keep_rules(folder, KEY, listed_pairs(folder, KEY, names), verdict)


def run(folder: Path, previous: pl.DataFrame = NOTHING, seen: pl.DataFrame = NO_SEEN) -> Resolution:
    found = resolve(ACCOUNTS, seen, previous, KEY, rules=read_rules(folder, KEY))
    write_private(folder / JOINS_FILE, found.joins)
    return found


def test_a_pair_said_apart_is_split_by_every_later_run_and_joined_again_when_said_so(tmp_path: Path) -> None:
    first = run(tmp_path)
    (pair,) = read_joins(tmp_path, KEY).iter_rows(named=True)
    assert pair["rule"] == "email" and "email the same" in pair["evidence"]
    assert "given similar" in pair["evidence"] and not {"W1", "A1"} & set(map(str, pair.values()))
    say(tmp_path, [pair["pair"]], "apart")
    second = run(tmp_path, first.identities)
    assert (first.num_customers, second.num_customers, second.num_split) == (2, 3, 1)
    assert changes(second.identities)["change"].to_list() == ["split"]
    third = run(tmp_path, second.identities)
    assert third.identities.equals(second.identities), "the rule holds and ids stay"
    say(tmp_path, [pair["pair"]], "same")
    assert read_rules(tmp_path, KEY)["verdict"].to_list() == ["same"]
    again = run(tmp_path, third.identities)
    assert again.num_customers == 2 and again.num_merged == 1
    assert (tmp_path / JOINS_FILE).stat().st_mode & 0o077 == 0


def test_an_unknown_pair_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(RuleError, match="0000000000: no such pair"):
        say(tmp_path, ["0000000000"], "apart")
    assert read_rules(tmp_path, KEY).is_empty()


def test_rules_go_with_the_forgotten(tmp_path: Path) -> None:
    run(tmp_path)
    say(tmp_path, read_joins(tmp_path, KEY)["pair"].to_list(), "apart")
    assert erase_pairs(tmp_path, {("web", KEY.pseudonym("web", "W1"))}, KEY) == 2
    assert read_rules(tmp_path, KEY).is_empty() and read_joins(tmp_path, KEY).is_empty()


# W2 and A9 have no account: they are known from events alone.
SEEN = pl.DataFrame(
    {
        "source": ["web", "app"],
        "source_id": ["W2", "A9"],
        "first_seen": [datetime(2024, 5, 1, tzinfo=UTC)] * 2,
    },
    schema=NO_SEEN.schema,
)
HEADER = "source,source_id,other_source,other_source_id\n"


def said_of_accounts(folder: Path, text: str, verdict: str) -> None:
    (folder / "pairs.csv").write_text(HEADER + text, encoding="utf-8")
    keep_rules(folder, KEY, account_pairs(str(folder / "pairs.csv"), folder / "tables", KEY), verdict)


def groups(found: Resolution) -> set[frozenset[str]]:
    frame = found.customers.group_by("customer_id").agg("source_id")
    return {frozenset(ids) for ids in frame["source_id"].to_list()}


@pytest.mark.parametrize(
    ("line", "joined"),
    [
        ("web,W1,app,A2", {"W1", "A2"}),  # all evidence is against
        ("app,A2,web,W1", {"W1", "A2"}),
        ("app,A2,web,W2", {"A2", "W2"}),  # one without an account
        ("web,W2,app,A2", {"A2", "W2"}),
        ("web,W2,app,A9", {"W2", "A9"}),  # both without
        (' web ,\ufeffW2 ,app,"=""A9"""', {"W2", "A9"}),  # as a spreadsheet writes them
    ],
)
def test_any_two_accounts_are_joined_when_said_so_and_parted_when_it_is_withdrawn(
    tmp_path: Path, line: str, joined: set[str]
) -> None:
    first = run(tmp_path, seen=SEEN)
    assert not any(joined <= group for group in groups(first))
    write_tables(tmp_path / "tables", {"identities": first.identities})
    said_of_accounts(tmp_path, line + "\n", "same")
    (rule,) = read_rules(tmp_path, KEY).iter_rows(named=True)
    second = run(tmp_path, first.identities, SEEN)
    assert any(joined <= group for group in groups(second))
    withdraw_rules(tmp_path, KEY, [rule["pair"]])
    assert read_rules(tmp_path, KEY).is_empty()
    assert groups(run(tmp_path, second.identities, SEEN)) == groups(first)


def test_the_same_pair_said_either_way_round_is_one_rule(tmp_path: Path) -> None:
    write_tables(tmp_path / "tables", {"identities": run(tmp_path, seen=SEEN).identities})
    (listed,) = read_joins(tmp_path, KEY)["pair"]
    said_of_accounts(tmp_path, "app,A1,web,W1\n", "same")
    said_of_accounts(tmp_path, "web,W1,app,A1\n", "apart")
    assert read_rules(tmp_path, KEY).select("pair", "verdict").rows() == [(listed, "apart")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("web,W1,app,A77", "line 3: the other_source_id is not known in 'app'"),
        ("wbe,W1,app,A2", "line 3: no source 'wbe'"),
        ("web,W1,web,W1", "line 3: both accounts are the same one"),
        ("web,W1", "line 3: no other_source ''"),
    ],
)
def test_an_account_that_nobody_has_is_told_by_its_line_and_nothing_is_kept(
    tmp_path: Path, line: str, told: str
) -> None:
    write_tables(tmp_path / "tables", {"identities": run(tmp_path).identities})
    with pytest.raises(RuleError, match=told) as raised:
        said_of_accounts(tmp_path, f"web,W1,app,A2\n{line}\n", "same")
    assert "A77" not in str(raised.value)
    assert read_rules(tmp_path, KEY).is_empty()


def test_a_rule_that_is_none_is_not_withdrawn(tmp_path: Path) -> None:
    run(tmp_path)
    say(tmp_path, read_joins(tmp_path, KEY)["pair"].to_list(), "apart")
    (kept,) = read_rules(tmp_path, KEY)["pair"]
    with pytest.raises(RuleError, match="0000000000: no such rule; nothing was withdrawn"):
        withdraw_rules(tmp_path, KEY, [kept, "0000000000"])
    assert read_rules(tmp_path, KEY)["pair"].to_list() == [kept]


@pytest.mark.parametrize("verb", ["review", "same", "apart", "rules", "withdraw"])
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and f"Example: shopsight identity {verb}" in shown.output


def test_the_verbs_keep_list_and_withdraw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"key_id": KEY.key_id, "secret": KEY.secret.hex()}
    (tmp_path / "key.json").write_text(json.dumps(secret))
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key.json"))
    write_tables(tmp_path / "tables", {"identities": run(tmp_path, seen=SEEN).identities})

    def shopsight(*words: str, stdin: str = "") -> str:
        done = CliRunner().invoke(app, [*words, "-w", str(tmp_path)], input=stdin, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    said = shopsight("same", "--accounts", "-", stdin=HEADER + "web,W1,web,W2\n")
    pair = said.split(":")[0]
    (rule,) = json.loads(shopsight("rules", "--json"))["rules"]
    assert (rule["pair"], rule["verdict"]) == (pair, "same") and "W2" not in str(rule)
    assert f"{pair}  same" in shopsight("rules")
    shopsight("withdraw", pair)
    assert json.loads(shopsight("rules", "--json"))["rules"] == []
    refused = CliRunner().invoke(app, ["same", "-w", str(tmp_path)])
    assert isinstance(refused.exception, RuleError)
