"""The page tells of segments in words, in numbers, why so many, and who moved; names from data stay text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopsight.training import profiles
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.tables import scan_table, write_tables
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.report import segment_figures
from shopsight.training.report.page import write_report
from shopsight.training.report.segments import segments
from tests.training.small_shop import tastes_shop, write_shop

CONFIG = ProfilesConfig(num_bootstraps=2, max_segments=4)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = tastes_shop(tmp_path_factory.mktemp("report"))
    items = scan_table(made.tables, "items").collect()
    hostile = pl.col("category_path").str.replace("Books", "<script>alert(1)</script>")
    write_tables(made.tables, {"items": items.with_columns(hostile)})
    profiles.train(made, CONFIG, lambda _: None)
    return made


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(workspace: Workspace) -> _Text:
    page = _Text()
    page.feed(write_report(workspace, title="t").read_text(encoding="utf-8"))
    return page


def test_every_segment_is_on_the_page_with_its_numbers_and_moves(workspace: Workspace) -> None:
    page = _read(workspace)
    trained = profiles.load(workspace)
    for segment in trained.segments:
        assert segment["name"] in page.text
        assert segment["description"] in page.text
    assert trained.metrics["migration"]["over_time"]["words"] in page.text
    assert "first two principal components" in page.text
    assert page.tags.count("svg") >= 3  # customers, moves, the choice of the number


def test_a_category_that_is_markup_stays_text(workspace: Workspace) -> None:
    page = _read(workspace)
    assert "<script>alert(1)" in page.text
    assert "script" not in page.tags


def test_the_choice_of_the_number_is_shown_with_its_reason(workspace: Workspace) -> None:
    detail = segments(workspace)["segment_detail"]
    tried = profiles.load(workspace).metrics["tried"]
    assert [row["number"] for row in detail["choice"]["rows"]] == [row["num_segments"] for row in tried]
    assert sum(row["chosen"] for row in detail["choice"]["rows"]) == 1
    assert "3 to 4 groups were tried. With 3 groups, the groups are stable" in detail["choice"]["sentence"]
    first = detail["traits"][0]
    assert re.fullmatch(r"[+-]\d\.\d", first["effect"]) and first["segment"]


def test_without_profiles_the_section_is_left_out(tmp_path: Path) -> None:
    assert segments(write_shop(tmp_path, []))["segments"] == []


def test_rows_and_columns_of_nobody_are_not_drawn() -> None:
    counts = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]])
    drawn = segment_figures.migration(counts, ["Readers", "Gardeners", "Not there"])
    assert "75%" in drawn and "100%" in drawn
    assert drawn.count("Gardeners") == 1  # somebody came to it, nobody was there before
    assert drawn.count("Not there") == 1
