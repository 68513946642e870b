"""Locks between processes: exclusive locks for writers, and shared locks that protect files from removal.

Both kinds are flock(2) locks. The kernel releases them when their process ends for any reason.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shopsight.serving.locking import NO_LOCKS, lock
from shopsight.serving.progress import Progress, silent

GRACE_SECONDS, _PAUSE_SECONDS = 5.0, 0.1
_held: dict[str, tuple[int, int]] = {}  # lock file to thread and depth


class Busy(RuntimeError):  # noqa: N818 - reads as what happened
    """Another process holds the lock; the message says which, and since when."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    work: str
    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"'{self.work}' is under way (process {self.pid} on {self.host}, since {self.since})"


@contextmanager
def exclusive(path: Path, work: str, *, wait: bool = False, say: Progress = silent) -> Iterator[None]:
    """Hold the lock file `path`; the thread that holds it may enter again.

    wait: report the holder to `say` and wait; otherwise Busy is raised after GRACE_SECONDS, in which a killed
    process has ended. Raises LocksMissingError on a filesystem without locks. work: the holder's task, shown
    to other processes.
    """
    key, me = os.path.realpath(path), threading.get_ident()
    thread, depth = _held.get(key, (me, 0))
    if depth and thread == me:
        _held[key] = (me, depth + 1)
        try:
            yield
        finally:
            _held[key] = (me, depth)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, path, wait, say)
        _sign(descriptor, Holder(work, os.getpid(), socket.gethostname(), f"{datetime.now(UTC):%F %T} UTC"))
        _held[key] = (me, 1)
        yield
    finally:
        _held.pop(key, None)
        os.close(descriptor)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Protect a file or folder from `remove_unread` for the block; raises FileNotFoundError if it is gone."""
    descriptor = take_shared(path)
    try:
        yield
    finally:
        os.close(descriptor)


def take_shared(path: Path) -> int:
    """Return an open descriptor that protects a file or folder from `remove_unread` until it is closed.

    Raises FileNotFoundError if the path is gone or is being removed. On a filesystem without locks nothing is
    protected, and nothing is removed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileNotFoundError(f"{path}: is being removed") from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            raise
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(f"{path}: was removed")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_unread(path: Path, remove: Callable[[Path], Any]) -> bool:
    """Call `remove` unless a process reads `path`; returns whether it was removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def _acquire(descriptor: int, path: Path, wait: bool, say: Progress) -> None:
    if _free(descriptor, path):
        return
    holder, deadline = _holder(descriptor), time.monotonic() + GRACE_SECONDS
    if not wait:
        while time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            if _free(descriptor, path):
                return
        raise Busy(f"{path.parent}: {holder}; wait until it has ended, or end it, and run this again")
    say(f"waiting: {holder}")
    lock(descriptor, path.parent, wait=True)


def _free(descriptor: int, path: Path) -> bool:
    """Take the lock if it is free."""
    try:
        lock(descriptor, path.parent, wait=False)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        return str(Holder(**json.loads(os.pread(descriptor, 4096, 0))))
    except (ValueError, TypeError):  # it has the lock and has not signed yet
        return "another process is at work here"
