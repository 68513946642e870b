"""One Ray cluster for all tests of jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.training.jobs.cluster_process import RayCluster, start_cluster

# Ray reads the mode when it is first imported, wherever that is.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="package")
def cluster() -> Iterator[RayCluster]:
    """A head node of four logical CPUs, dashboard on loopback, token authentication."""
    started = start_cluster(num_cpus=4)
    yield started
    started.stop()
