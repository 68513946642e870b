"""The HTTP client against servers that are slow, broken, or not Triton."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from shopsight.serving.client import (
    DeadlineExceededError,
    RequestRefusedError,
    ServerUnavailableError,
    ShopsightClient,
)
from shopsight.serving.client_transport import HttpTransport

Answerer = Callable[[socket.socket, threading.Event], None]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[[Answerer], str]]:
    """Start servers that read a request and then do what a test says; `done` is set when it has ended."""
    listener, done = socket.create_server(("127.0.0.1", 0)), threading.Event()
    threads: list[threading.Thread] = []

    def start(answer: Answerer) -> str:
        def connection(peer: socket.socket) -> None:
            with peer:
                peer.recv(65536)
                with contextlib.suppress(OSError):  # the client has gone
                    answer(peer, done)

        def accept() -> None:
            while not done.is_set():
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=connection, args=(peer,)))
                threads[-1].start()

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    done.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join(30)


def answers(content: bytes) -> Answerer:
    def answer(peer: socket.socket, _: threading.Event) -> None:
        peer.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)

    return answer


def drips(*before: bytes, endless: bytes) -> Answerer:
    """Send something, then a byte whenever the client waits, for as long as the test runs."""

    def answer(peer: socket.socket, done: threading.Event) -> None:
        peer.sendall(b"".join(before))
        for byte in itertools.cycle(endless):
            if done.wait(0.05):
                return
            peer.sendall(bytes([byte]))

    return answer


def floods(peer: socket.socket, done: threading.Event) -> None:
    peer.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not done.is_set():
        peer.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")


DRIPPING: dict[str, Answerer] = {
    "body": drips(HEAD, b"Content-Length: 100000\r\n\r\n", endless=b"{"),
    "chunks": drips(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", endless=b"1\r\n{\r\n"),
    "headers": drips(HEAD, b"X-Long: ", endless=b"x"),
    "status line": drips(endless=b"H"),
    "a flood": floods,
    "nothing": lambda _, done: done.wait() and None,
}


@pytest.mark.parametrize("case", DRIPPING)
def test_a_deadline_is_of_the_whole_answer(serve: Callable[[Answerer], str], case: str) -> None:
    """Without one these servers would keep the client for good: the test ends because the client does."""
    with ShopsightClient(serve(DRIPPING[case]), "http", deadline_seconds=0.5) as client:
        with pytest.raises(DeadlineExceededError, match="no answer within"):
            client.understand("hello")
        assert not client.is_ready()


@pytest.mark.parametrize(
    "content",
    [b"<html>welcome</html>", b"", b"[]", b"null", b"{}", b'{"outputs": 3}', b'{"outputs": [{"name": "A"}]}',
     b"\xff\xfe", b"[" * 100_000,
     b'{"outputs": [{"name": "A", "datatype": "FP32", "shape": [9], "data": [1]}]}'],
    ids=lambda content: repr(content[:20]),
)  # fmt: skip
def test_what_is_not_tritons_answer_is_an_error_of_the_client(
    serve: Callable[[Answerer], str], content: bytes
) -> None:
    transport = HttpTransport(serve(answers(content)))
    with pytest.raises(ServerUnavailableError, match="is this its HTTP address"):
        transport.infer("m", {"X": np.zeros((1, 2), np.float32)}, "id", 60.0)
    transport.close()


def test_an_error_that_is_no_json_is_still_a_refusal(serve: Callable[[Answerer], str]) -> None:
    def answer(peer: socket.socket, _: threading.Event) -> None:
        peer.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000)

    with (
        ShopsightClient(serve(answer), "http", deadline_seconds=20) as client,
        pytest.raises(RequestRefusedError, match="HTTP status 400"),
    ):
        client.understand("hello")


def test_a_server_that_hangs_up_in_the_middle_is_away(serve: Callable[[Answerer], str]) -> None:
    def answer(peer: socket.socket, _: threading.Event) -> None:
        peer.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")

    transport = HttpTransport(serve(answer))
    with pytest.raises(ServerUnavailableError, match="no connection"):
        transport.infer("m", {"X": np.zeros((1, 2), np.float32)}, "id", 60.0)
    transport.close()
