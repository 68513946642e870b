"""Names of any shop's categories and products can be drawn."""

from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

from shopsight.training.report.figures import bars, line, scatter, shortened
from shopsight.training.report.segment_figures import migration

NAMES = [
    "Gifts under $20, or $50", "$", "$$", "$x_1^2$", "US$ & CA$", r"\$5 off", r"\frac{1}{2}", "a_b^c",
    "_hidden", "100% 'cotton' \"x\"", "<b>bold</b> & <script>alert(1)</script>", "]]>", "{curly}",
    "#1 ~ best",
    "连衣裙与半身裙", "ワンピース", "원피스",
    "שמלות", "فساتين", "👗 dresses", "Ünïcödé", "tab\tand\nnewline",
    "bell\x07null\0end", "\u202eright to left", "\ufeffmark", "lone \ud800 half", "   ", "", "x" * 5000,
    "连" * 500, "%s %d {0}",
]  # fmt: skip


def labels(drawn: str) -> list[str]:
    """The texts of a figure; fails where it is not XML that every browser reads."""
    root = ElementTree.fromstring(drawn)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]))
def test_a_name_is_drawn_as_it_is(name: str) -> None:
    shown = shortened(name)
    counts = np.array([[3, 1], [0, 2]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = {
            "bars": bars([name, "other"], [2.0, 1.0], unit=name),
            "scatter": scatter(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]), [name, "other"]),
            "migration": migration(counts, [name, "other"]),
        }
    for kind, drawn in figures.items():
        drawn.encode("utf-8")
        found = labels(drawn)
        assert "other" in found, kind
        assert not shown.strip() or any(shortened(name, 30)[:10] in text for text in found), (kind, found)
        assert "<script" not in drawn


def test_amounts_in_dollars_label_an_axis() -> None:
    drawn = line([1, 2, 3], [1.0, 2.0, 3.0], unit="revenue per week, US$ (not CA$)")
    assert "revenue per week, US$ (not CA$)" in labels(drawn)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("short", "short"),
        ("a" * 44, "a" * 44),
        ("a" * 45, "a" * 43 + "…"),
        ("连" * 22, "连" * 22),
        ("连" * 23, "连" * 21 + "…"),
        ("two\n lines\t", "two lines"),
        ("\0\x07", ""),
        ("", ""),
    ],
)
def test_a_long_name_is_cut_by_its_width(name: str, shown: str) -> None:
    assert shortened(name) == shown


def test_equal_figures_are_equal_text() -> None:
    first, second = (bars(["$a$", "连衣裙"], [1.0, 2.0], unit="€") for _ in range(2))
    assert first == second
    assert re.match(r"<svg", first)
