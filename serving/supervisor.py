"""Keeps a release available: loads a dead or hung model again and restarts a dead server.

`shopsight serve --detach` runs `python -m shopsight.serving.supervisor REPOSITORY HTTP_PORT GRPC_PORT
METRICS_PORT`. While the server runs, its models are checked one after the other, members before the routers
that call them. After it ended, it is restarted, with growing pauses between failed attempts. While a
publisher runs, the supervisor changes nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from shopsight.serving.confined import PathRefusedError
from shopsight.serving.golden import GoldenError
from shopsight.serving.health import Health
from shopsight.serving.processes import end_stubs
from shopsight.serving.progress import Progress
from shopsight.serving.pseudonym import key_path
from shopsight.serving.release import Pointer, Release, ReleaseError, current_release
from shopsight.serving.repository import PublishError, load_release, only_publisher
from shopsight.serving.server import TritonServer, private_server
from shopsight.serving.server_errors import ModelLoadError, ServerError
from shopsight.serving.server_process import LOG_FILE
from shopsight.serving.triton_environment import find_triton
from shopsight.serving.verify import verify_model

READY = "ready"
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_RELOAD_SECONDS = 30.0


class Supervisor:
    """Serves a repository's current release; restarts keep the ports of the first start."""

    def __init__(
        self,
        repository: Path,
        ports: tuple[int, int, int],
        say: Progress,
        replica_address: str | None = None,
    ) -> None:
        """With `replica_address`, serve the release that is current now and only read the repository."""
        self.repository, self.ports, self.say = repository, ports, say
        self._replica_address = replica_address
        self._health: Health | None = None
        self._pinned: Release | None = None  # a replica's release
        self._rehearsed: Release | None = None

    def start(self) -> TritonServer:
        """Start a server, load the current release and replay its goldens.

        A release that no server has rehearsed is rehearsed in a private server first, so that callers never
        reach a release that fails a golden request.
        """
        self._rehearse()
        http, grpc, metrics = self.ports
        key_file = key_path() if key_path().exists() else None
        self.server = TritonServer.start(
            self.repository,
            http_port=http,
            grpc_port=grpc,
            metrics_port=metrics,
            key_file=key_file,
            supervised=True,
            replica_address=self._replica_address,
        )
        state = self.server.state
        self.ports = (state.http_port, state.grpc_port, state.metrics_port)
        try:
            self._pinned = None
            release = self._release()
            load_release(self.repository, release, self.server, self.say)
            self._pinned = release if self._replica_address is not None else None
        except BaseException:
            self.server.stop(keep_note=True)
            raise
        self._health = None
        return self.server

    def _rehearse(self) -> None:
        release = self._release()
        if release == self._rehearsed or Pointer.read(self.repository).rehearsed:
            return
        self.say(f"rehearsing release {release.number} in a private server")
        with private_server(self.repository) as private:
            load_release(self.repository, release, private, self.say)
        self._rehearsed = release

    def run(self) -> NoReturn:
        """Check and restart the server until SIGTERM.

        Raises ReleaseError or PathRefusedError if the release was altered, as a restart would not help.
        """
        while True:
            time.sleep(_PAUSE_SECONDS)
            try:
                if self.server.process_is_alive():
                    self.mend()
                    continue
                self.say("the server has ended")
            except (ServerError, GoldenError) as error:
                self.say(f"the server is ended: {error}")
                self.server.kill()
            self._start_again()

    def _start_again(self) -> None:
        pause = _PAUSE_SECONDS
        while True:
            self.server.stop(keep_note=True)  # it has ended: what it left is removed
            try:
                self.start()
            except (ServerError, GoldenError) as error:
                self.say(f"the restart failed: {error}; the next attempt is in {pause:g} seconds")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self.say("the server was restarted")
                return

    def mend(self) -> None:
        """Check every model, and load those again that do not answer."""
        silent = self._silent_models()
        if not silent:
            return
        assert self._health is not None
        try:
            with self._undisturbed():
                if self._release() != self._health.release:
                    return  # another release was published in the meantime
                for name, why in silent.items():
                    self.say(f"{name} does not answer ({why}); it is loaded again")
                    self._load_again(name)
        except PublishError:  # a publisher changes what is loaded just now
            return

    def _undisturbed(self) -> AbstractContextManager[None]:
        """Hold the publishers' lock; a replica needs none."""
        return only_publisher(self.repository) if self._replica_address is None else nullcontext()

    def _silent_models(self) -> dict[str, str]:
        """Return why models do not answer; members come first, as a router fails if its member does."""
        release = self._release()
        if self._health is None or self._health.release != release:
            in_stubs = not find_triton().is_native
            self._health = Health(self.server, self.repository, release, in_stubs)
        for level in release.levels():
            if found := {name: why for name in level if (why := self._health.problem(name))}:
                return found
        return {}

    def _load_again(self, name: str) -> None:
        verify_model(self.repository, self._release(), name)
        end_stubs(self.server.state.server_id, name)  # one that is stopped would never unload
        self.server.unload(name, _RELOAD_SECONDS)
        deadline = time.monotonic() + _RELOAD_SECONDS
        while True:
            try:
                self.server.load(name, _RELOAD_SECONDS)
                return
            except ModelLoadError:  # Triton refuses while it still unloads
                if time.monotonic() > deadline or not self.server.process_is_alive():
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _release(self) -> Release:
        if self._pinned is not None:
            return self._pinned
        release = current_release(self.repository)
        if release is None:
            raise ReleaseError(f"{self.repository} holds no release; run 'shopsight publish' first")
        return release


def end_in_order() -> None:
    """Turn SIGTERM into a normal exit, so that the server is stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def start_detached(repository: Path, ports: tuple[int, int, int], say: Progress) -> None:
    """Start a supervisor that outlives this process, and return when the release answers.

    Raises ServerError with the reason.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "shopsight.serving.supervisor", str(repository.absolute()), *map(str, ports)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        for line in process.stdout:
            if line.rstrip("\n") == READY:
                return
            say(line.rstrip("\n"))
        raise ServerError(process.stderr.read().strip() or "the server ended before it was ready")


def main() -> None:
    """Serve detached: print `READY` once the release answers, then write to the server's log."""
    repository, *ports = sys.argv[1:]
    http, grpc, metrics = map(int, ports)
    supervisor = Supervisor(Path(repository), (http, grpc, metrics), lambda line: print(line, flush=True))
    end_in_order()
    try:
        supervisor.start()
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f"{error}")
    try:
        print(READY, flush=True)
        _write_to(Path(repository) / LOG_FILE)
        supervisor.run()
    except (ReleaseError, PathRefusedError) as error:
        sys.exit(f"{error}")
    finally:
        supervisor.server.stop()


def _write_to(log_file: Path) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


if __name__ == "__main__":
    main()
