"""How the suite is shared out between processes: files stay whole, and so does what shares a server."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
# Folders whose tests share one costly fixture of the session: a Ray cluster, a shop that went the whole way.
_TOGETHER = ("training/jobs", "whole_way")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the group that one process runs; the groups that take longest come first."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: _group(item) not in _TOGETHER)


def _group(item: pytest.Item) -> str:
    file = item.path.relative_to(_HERE).as_posix()
    return next((folder for folder in _TOGETHER if file.startswith(f"{folder}/")), file)
