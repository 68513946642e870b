"""How the suite is shared out between processes: files stay whole, and so does what shares a server."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Folders whose tests share one costly fixture: a Ray cluster, a shop that went the whole way.
_TOGETHER = ("tests/training/jobs", "tests/whole_way")


class _ByGroup(LoadScopeScheduling):
    """Keeps a group in one process; pytest 9.2 loses the groups that pytest-xdist 3.8 reads from markers."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Share out groups and no single tests."""
    return _ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups that take longest first: one of them at the end would leave a core idle."""
    items.sort(key=lambda item: group_of(item.nodeid) not in _TOGETHER)


def group_of(nodeid: str) -> str:
    """The name of the tests that run in one process: a file, or a folder that shares a fixture."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in _TOGETHER if file.startswith(f"{folder}/")), file)
