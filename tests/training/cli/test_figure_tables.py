"""Figures read as people write them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shopsight.training.cli.figure_tables import shown, tables


def printed(name, figures):
    console = Console(file=io.StringIO(), width=200)
    for table in tables(name, figures):
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.26732502922707935, "0.2673"),
        (2190933.0284241596, "2,190,933"),
        (4372, "4,372"),
        (True, "yes"),
        (None, "-"),
        ([], "-"),
        (["a", "b"], "a, b"),
        ({"value": 0.5, "low": 0.25, "high": 0.75}, "0.5 (0.25 to 0.75)"),
        ("", ""),
    ],
)
def test_a_figure_is_text(value, text):
    assert shown(value) == text


def test_figures_within_figures_keep_both_names():
    text = printed("recommend", {"popularity": {"recall_at_10": {"value": 0.1, "low": 0.05, "high": 0.2}}})
    assert "popularity: recall at 10" in text and "0.1 (0.05 to 0.2)" in text


def test_trials_are_a_table_of_their_own_and_keep_every_column():
    text = printed("profiles", {"tried": [{"num": 3, "stability": 0.95}, {"num": 4, "chosen": True}]})
    assert "profiles: tried" in text
    assert all(word in text for word in ("stability", "chosen", "0.95", "yes"))
