"""Progress on a terminal and elsewhere: what is counted, the estimate, and lines that stay whole."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shopsight.serving.progress import counted
from shopsight.serving.terminal_progress import TerminalProgress


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _terminal(*, is_terminal: bool) -> tuple[TerminalProgress, io.StringIO, _Clock]:
    written, clock = io.StringIO(), _Clock()
    console = Console(file=written, force_terminal=is_terminal, width=100, color_system=None)
    return TerminalProgress(console, clock), written, clock


def test_the_estimate_is_the_rest_at_the_speed_so_far() -> None:
    shown, written, clock = _terminal(is_terminal=True)
    with counted(shown, "epochs", 10) as done:
        for _ in range(4):
            clock.now += 30
            done(1)
        assert shown._bars is not None
        (task,) = shown._bars.tasks
        assert (task.description, task.completed, task.total) == ("epochs", 4, 10)
        assert task.time_remaining == pytest.approx(6 * 30)
        shown._bars.refresh()
    assert "epochs" in written.getvalue() and "40%" in written.getvalue() and "left" in written.getvalue()
    assert shown._bars is None


def test_work_inside_work_has_a_bar_of_its_own_and_ends_first() -> None:
    shown, _, _ = _terminal(is_terminal=True)
    with counted(shown, "settings", 3) as outer:
        with counted(shown, "epochs", 5) as inner:
            inner(5)
            assert shown._bars is not None
            assert [task.description for task in shown._bars.tasks] == ["settings", "epochs"]
        outer(1)
        assert [(t.description, t.completed) for t in shown._bars.tasks] == [("settings", 1)]


def test_a_failure_takes_the_bar_away() -> None:
    shown, _, _ = _terminal(is_terminal=True)
    with pytest.raises(OSError, match="full"), counted(shown, "reading", 1):
        raise OSError("the disk is full")
    assert shown._bars is None


def test_where_there_is_no_terminal_there_are_lines_alone() -> None:
    shown, written, clock = _terminal(is_terminal=False)
    with counted(shown, "epochs", 2) as done:
        clock.now += 61
        shown("epoch 1 of 2")
        done(1)
    assert written.getvalue() == "01:01  epoch 1 of 2\n"


def test_a_line_is_shown_as_it_is() -> None:
    shown, written, _ = _terminal(is_terminal=False)
    line = "read 3 rows of /shop [old]/orders[2026].csv " + "x" * 200
    shown(line)
    assert written.getvalue() == f"00:00  {line}\n"


def test_a_function_of_lines_alone_counts_nothing() -> None:
    lines: list[str] = []
    with counted(lines.append, "epochs", 2) as done:
        done(1)
    assert lines == []
