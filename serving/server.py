"""Start, find and stop the Triton server of a model repository, and load models into it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from shopsight.serving import guard
from shopsight.serving.confined import repository_root
from shopsight.serving.golden import replay
from shopsight.serving.pseudonym import key_path
from shopsight.serving.release import Release
from shopsight.serving.server_errors import ModelLoadError, PortInUseError, ServerError, ServerNotRunningError
from shopsight.serving.server_process import (
    EXIT_TIMEOUT_SECONDS,
    LOOPBACK,
    SECRET_HEADER,
    Ports,
    StartOptions,
    check_free,
    clear_leftovers,
    hide_from_process_list,
    launch,
    log_tail,
    only_one_starts,
    remove_runtime,
)
from shopsight.serving.server_state import ServerState, remove_state
from shopsight.serving.triton_environment import TritonMissingError, find_triton

__all__ = [
    "ModelLoadError",
    "PortInUseError",
    "ServerError",
    "ServerNotRunningError",
    "TritonMissingError",
    "TritonServer",
    "find_triton",
    "private_server",
    "short_reason",
]

_ATTACH_SECONDS = 10.0
_POLL_SECONDS = 0.05
# Calls to loopback must not go through a proxy that the environment names.
_CHANNEL_ARGUMENTS = [("grpc.enable_http_proxy", 0)]


class TritonServer:
    """A running Triton server; leaving it as a context manager stops it."""

    def __init__(
        self, repository: Path, state: ServerState, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.repository = repository
        self.state = state
        self._process = process
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        repository: Path,
        *,
        models: Sequence[str] = (),
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        key_file: Path | None = None,
        auto_complete: bool = False,
        supervised: bool = False,
        replica_address: str | None = None,
        startup_seconds: float = 60.0,
    ) -> TritonServer:
        """Start a server on loopback, load `models` in order, and note it in the repository's `.server.json`.

        Port 0 takes a free one. `key_file` is the pseudonymisation key for the routers. The server and all of
        its stubs end when the calling thread ends for any reason. `auto_complete` lets Triton complete
        configurations; it doubles the time of every load, and ours are complete. `supervised` records the
        calling process as the one that restarts the server (serving/supervisor.py). A replica listens on
        `replica_address` and writes nothing into the repository, neither state file nor log. Raises
        TritonMissingError, PortInUseError, ModelLoadError (the server is stopped) or ServerError, each with
        the remedy.
        """
        repository = repository_root(repository)
        if not repository.is_dir():
            raise ServerError(f"no model repository at {repository}; 'shopsight publish' makes one")
        if replica_address is None and not os.access(repository, os.W_OK):
            raise ServerError(f"{repository} is not writable; the server's note and log go there")
        with only_one_starts(repository):
            clear_leftovers(repository)
            ports = Ports(http_port, grpc_port, metrics_port)
            options = StartOptions(ports, key_file, auto_complete, supervised, replica_address)
            server = cls._start_empty(repository, options, startup_seconds)
        try:
            for model in models:
                server.load(model)
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def _start_empty(cls, repository: Path, options: StartOptions, startup_seconds: float) -> TritonServer:
        check_free(options.ports)
        for last_attempt in (False, False, True):
            state, process = launch(repository, options)
            server = cls(repository, state, process)
            try:
                server._guard = guard.post(Path(state.runtime_folder))
                if options.replica_address is None:
                    state.write(repository)
                if (problem := server._wait_until_up(startup_seconds)) is None:
                    hide_from_process_list(state.pid, state.secret)
                    return server
                tail = log_tail(Path(state.log_file))
            except BaseException:
                server.stop(keep_note=options.supervised)
                raise
            server.stop(keep_note=options.supervised)
            # Another process may take a free port before Triton listens on it; then another port is tried.
            if "in use" not in tail or last_attempt:
                break
        raise ServerError(f"Triton did not start: {problem}. The end of {state.log_file}:\n{tail}")

    @classmethod
    def of(cls, repository: Path) -> TritonServer:
        """Find the server of a repository that runs, or that its supervisor is about to restart.

        Raises ServerNotRunningError with the remedy.
        """
        repository = repository.absolute()
        state = ServerState.read(repository)
        if state is None or not (state.process_is_alive or state.is_supervised):
            raise ServerNotRunningError(
                f"no server runs for {repository}; start one with 'shopsight serve --repository {repository}'"
            )
        return cls(repository, state)

    @classmethod
    def attach(cls, repository: Path) -> TritonServer:
        """Find the running server of a repository; raises ServerNotRunningError with the remedy."""
        server = cls.of(repository)
        state = server.state
        if not state.process_is_alive:
            raise ServerNotRunningError(
                f"the server of {repository} ended and is being started again; its log is {state.log_file}"
            )
        if problem := server._wait_until_up(_ATTACH_SECONDS):  # it may be starting just now
            raise ServerNotRunningError(
                f"process {state.pid} should serve {server.repository}, but: {problem}; "
                f"its log is {state.log_file}"
            )
        return server

    def twin(self, repository: Path) -> TritonServer:
        """Start a private server of the same kind for another repository; it ends with this thread."""
        return TritonServer.start(
            repository, key_file=Path(self.state.key_file) if self.state.key_file else None
        )

    def replay(self, repository: Path, release: Release) -> int:
        """Ask every golden request of a loaded release; returns how many. Raises GoldenError."""
        return replay(self.grpc_url, repository, release)

    @property
    def http_url(self) -> str:
        """Address of the HTTP endpoint, as `tritonclient.http` takes it."""
        return f"{LOOPBACK}:{self.state.http_port}"

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC endpoint, as `tritonclient.grpc` takes it."""
        return f"{LOOPBACK}:{self.state.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics page."""
        return f"http://{LOOPBACK}:{self.state.metrics_port}/metrics"

    def load(self, model: str, timeout_seconds: float = 120.0) -> None:
        """Load a model, or its new versions; the versions that serve keep serving when Triton refuses.

        Raises ModelLoadError with Triton's reason.
        """
        try:
            with self._admin() as client:
                client.load_model(model, headers=self._secret(), client_timeout=timeout_seconds)
        except InferenceServerException as error:
            raise ModelLoadError(model, self._reason(error)) from error

    def unload(self, model: str, timeout_seconds: float = 60.0) -> None:
        """Stop serving a model; requests under way are answered first."""
        try:
            with self._admin() as client:
                client.unload_model(model, headers=self._secret(), client_timeout=timeout_seconds)
        except InferenceServerException as error:
            raise ServerError(f"Triton did not unload '{model}': {self._reason(error)}") from error

    def ready(self, model: str, version: int | None = None) -> bool:
        """Whether a model (any version, or the given one) is ready in this server."""
        try:
            with self._admin() as client:
                asked = "" if version is None else str(version)
                return self._is_itself(client) and bool(
                    client.is_model_ready(model, asked, client_timeout=5.0)
                )
        except InferenceServerException:
            return False

    def is_running(self) -> bool:
        """Whether the process is alive and answers with its own server id."""
        if not self.process_is_alive():
            return False
        with self._admin() as client, contextlib.suppress(InferenceServerException):
            return self._is_itself(client)
        return False

    def wait(self) -> None:
        """Return when the server has ended, for a command that serves in the foreground."""
        while self.process_is_alive():
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill a server that does not react, and all of its stubs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.state.pid, signal.SIGKILL)
        while self.process_is_alive():
            time.sleep(_POLL_SECONDS)

    def stop(self, keep_note: bool = False) -> None:
        """Stop the server: running requests are answered, then its temporary files are removed.

        A supervised server is stopped through its supervisor, which would restart it otherwise. With
        `keep_note` the state file stays, so that other commands still find the supervisor.
        """
        if self.state.is_supervised and self.state.supervisor not in (None, os.getpid()):
            assert self.state.supervisor is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.state.supervisor, signal.SIGTERM)
            deadline = time.monotonic() + 2 * EXIT_TIMEOUT_SECONDS + 20
            while self.state.is_supervised and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        if self.process_is_alive():
            os.kill(self.state.pid, signal.SIGTERM)
            deadline = time.monotonic() + EXIT_TIMEOUT_SECONDS + 10
            while self.process_is_alive() and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if self.process_is_alive():
                self.kill()
        if not keep_note:
            remove_state(self.repository, self.state.server_id)
        remove_runtime(self.state)
        if self._guard is not None:
            guard.dismiss(self._guard)

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @contextlib.contextmanager
    def _admin(self) -> Iterator[Any]:
        client = triton_grpc.InferenceServerClient(self.grpc_url, channel_args=_CHANNEL_ARGUMENTS)
        try:
            yield client
        finally:
            client.close()

    def _secret(self) -> dict[str, str]:
        return {f"triton-grpc-protocol-{SECRET_HEADER}": self.state.secret}

    def _is_itself(self, client: Any) -> bool:
        return bool(client.get_server_metadata(client_timeout=5.0).name == self.state.server_id)

    def _wait_until_up(self, seconds: float) -> str | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.is_running():
                return None
            if not self.process_is_alive():
                return "it ended at once"
            time.sleep(_POLL_SECONDS)
        return f"no answer within {seconds:g} seconds"

    def process_is_alive(self) -> bool:
        """Whether the server's process runs, even if it does not answer."""
        if self._process is not None and self._process.poll() is not None:  # poll also reaps our child
            return False
        return self.state.process_is_alive

    def _reason(self, error: InferenceServerException) -> str:
        if not self.process_is_alive():
            return f"the server has ended; its log is {self.state.log_file}"
        return short_reason(str(error.message()))


def private_server(repository: Path) -> TritonServer:
    """Start a server on free ports of loopback that writes nothing into its repository.

    It has the pseudonymisation key of this machine, where there is one.
    """
    key_file = key_path() if key_path().exists() else None
    return TritonServer.start(repository, key_file=key_file, replica_address=LOOPBACK)


def short_reason(message: str) -> str:
    """Reduce Triton's message to its cause: no traceback, no repeated prefix, at most 500 characters."""
    cause = message.split("\n\nAt:")[0].split("Traceback (most recent call last)")[0]
    _, _, after = cause.partition("state: ")
    return " ".join((after or cause).split()).rstrip(";")[:500]
