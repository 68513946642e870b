"""HTTP connections with one deadline for the whole answer.

A socket's own timeout applies to each wait alone: a server that sends single bytes would never reach it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import urllib3


class _Deadline(threading.local):
    at = float("inf")  # of the request that this thread waits for, on the monotonic clock


_deadline = _Deadline()


@contextlib.contextmanager
def answered_within(seconds: float) -> Iterator[None]:
    """Bound all sending and reading of this thread in the block; raises urllib3's timeout errors."""
    _deadline.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _deadline.at = float("inf")


def connection_pool(url: str) -> urllib3.HTTPConnectionPool:
    """Return a pool of connections to host:port that obey `answered_within`; it does not retry."""
    pool = urllib3.connectionpool.connection_from_url(f"http://{url}", maxsize=16, retries=False)
    pool.ConnectionCls = _Connection
    return pool


class _Connection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        plain = super()._new_conn()
        timeout = plain.gettimeout()
        connected = _Socket(fileno=plain.detach())
        connected.settimeout(timeout)
        return connected


class _Socket(socket.socket):
    def recv_into(self, *arguments: Any) -> int:
        self._wait_no_longer()
        return super().recv_into(*arguments)

    def sendall(self, *arguments: Any) -> None:
        self._wait_no_longer()
        super().sendall(*arguments)

    def _wait_no_longer(self) -> None:
        left = _deadline.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        if left < float("inf"):
            self.settimeout(left)
