"""Explains failures on a cluster in one line with the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator

INTACT = "the last good checkpoint is intact, and the same command goes on from it"

# By name, so that Ray need not be imported: classes of ray.exceptions and their remedies.
_REMEDIES = {
    "ObjectStoreFullError": "Ray's object store is full: start the cluster with a larger "
    f"--object-store-memory, or run fewer jobs at once; {INTACT}",
    "OutOfDiskError": "the disk under Ray's --temp-dir is full: make room there, or start the cluster with "
    f"--object-spilling-directory on another disk; {INTACT}",
    "OutOfMemoryError": "a worker was stopped because its node ran out of memory: take more workers on "
    f"more nodes, so that each holds less, or a larger --cpus-per-worker; {INTACT}",
    "AuthenticationError": "the cluster refused our token: set RAY_AUTH_TOKEN, or the file "
    "RAY_AUTH_TOKEN_PATH, to the token that the cluster was started with",
    "NodeDiedError": f"the node under a worker died: start it again; {INTACT}",
    "LocalRayletDiedError": f"Ray's raylet on this node died: start the node again; {INTACT}",
}
# Ray's errors that would recur on another attempt, as the resources would still be too small.
_LASTING = {"ObjectStoreFullError", "OutOfDiskError", "OutOfMemoryError", "AuthenticationError"}
# Error texts of gloo and NCCL in a live worker after another worker died.
_PEER_GONE = ("gloo", "nccl", "connection reset by peer", "connection closed by peer")


class JobError(RuntimeError):
    """A job could not start or did not finish; the message names what is wrong and the remedy."""


def explained(error: BaseException) -> JobError:
    """Return a job's failure as a JobError with the cause and the remedy."""
    cause = root_cause(error)
    for one in _chain(cause):
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" at {one.filename}" if one.filename else ""
            return JobError(f"the disk is full{where}: make room on the workspace's filesystem; {INTACT}")
        if type(one).__name__ in _REMEDIES:
            return JobError(_REMEDIES[type(one).__name__])
        if type(one).__module__.startswith("shopsight."):
            return JobError(str(one))
    return JobError(f"{type(cause).__name__}: {_first_lines(cause)}; {INTACT}")


def is_death(error: BaseException) -> bool:
    """Return whether workers died or lost connections, so that a restart from the checkpoint may succeed.

    Errors that a training itself raises would recur.
    """
    causes = _causes(error)
    if any(type(cause).__name__ in _LASTING for cause in causes):
        return False
    return all(type(cause).__module__.startswith("ray.") or lost_a_peer(cause) for cause in causes)


def root_cause(error: BaseException) -> BaseException:
    """Return the original failure, unwrapped from Ray's exceptions and not caused by another worker's."""
    causes = _causes(error)
    return next((cause for cause in causes if not lost_a_peer(cause)), causes[0])


def lost_a_peer(error: BaseException) -> bool:
    """Return whether this is the error of a collective operation after another worker died."""
    if type(error).__name__ in ("DistBackendError", "DistNetworkError"):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _PEER_GONE)


def _causes(error: BaseException) -> list[BaseException]:
    """Return one failure per worker: its exception, or Ray's report of its death."""
    by_rank = getattr(error, "worker_failures", None)
    failures = [by_rank[rank] for rank in sorted(by_rank)] if by_rank else [error]
    return [_unwrapped(failure) for failure in failures]


def _unwrapped(error: BaseException) -> BaseException:
    for name in ("_base_exc", "health_check_failure", "controller_failure", "cause"):
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return _unwrapped(inner)
    return error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
