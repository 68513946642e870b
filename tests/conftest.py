"""How the suite is shared out between processes: files stay whole, and so does what shares a server."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# What runs in one process because it shares a costly fixture: a Ray cluster, a shop that went the whole way.
_TOGETHER = {
    "tests/training/jobs/": "training/jobs",
    "tests/whole_way/test_bad_input.py": "the served shop",
    "tests/whole_way/test_no_raw_ids.py": "the served shop",
    "tests/whole_way/test_parity.py": "the served shop",
}
# The groups that take longest, in turn: servers, clusters, trainings.
_LONGEST = (
    "the served shop",
    "training/jobs",
    "tests/serving/test_publish_served.py",
    "tests/kernels/test_cuda_compile.py",
    "tests/training/recommend/embedding/test_key_order.py",
    "tests/whole_way/test_real_data.py",
    "tests/field/test_state.py",
    "tests/training/recommend/embedding/test_workers.py",
    "tests/serving/test_server.py",
    "tests/kernels/test_cuda_races.py",
    "tests/serving/test_repository.py",
    "tests/whole_way/test_fixture_shop.py",
    "tests/whole_way/test_no_texts.py",
    "tests/reliability/test_supervisor.py",
    "tests/serving/test_cli.py",
    "tests/security/test_release_altered.py",
    "tests/training/privacy/test_forget.py",
    "tests/reliability/test_publish_killed.py",
    "tests/training/recommend/test_recommend.py",
)


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
    turn = {group: number for number, group in enumerate(_LONGEST)}
    items.sort(key=lambda item: turn.get(group_of(item.nodeid), len(turn)))


def group_of(nodeid: str) -> str:
    """The name of the tests that run in one process: their file, or the fixture that several files share."""
    file = nodeid.partition("::")[0]
    return next((group for start, group in _TOGETHER.items() if file.startswith(start)), file)
