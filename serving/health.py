"""Health check of each model of a release: its processes are alive, not hung, and answer golden requests.

`python -m shopsight.serving.health REPOSITORY [HOST:PORT]` sends a golden request to each router of a server,
as the container's health check does. It exits with 1 and prints the reason if one does not answer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from shopsight.serving.at_work import seconds_at_work
from shopsight.serving.contract import read_goldens
from shopsight.serving.golden import CHANNEL_ARGUMENTS, GoldenError, ask
from shopsight.serving.processes import stubs
from shopsight.serving.release import Release, releases
from shopsight.serving.server import TritonServer
from shopsight.serving.triton_config import CONFIG_FILE, read_config

# A model that answers no request for so long is hung; one that answers others in the meantime is busy.
STUCK_SECONDS = 3.0


class Health:
    """Health of the models of one release in one server.

    runs_members_in_stubs: whether ONNX members run in stub processes; a native server runs them without.
    """

    def __init__(
        self, server: TritonServer, repository: Path, release: Release, runs_members_in_stubs: bool
    ) -> None:
        self.release = release
        self._server = server
        self._golden = {name: read_goldens(release.folder(repository, name))[0] for name in release.models}
        self._num_stubs = {
            name: _num_instances(release.folder(repository, name)) * len(model.versions)
            for name, model in release.models.items()
            if model.kind == "router" or runs_members_in_stubs
        }

    def problem(self, model: str) -> str | None:
        """Return why a model does not answer; None if it does."""
        alive = [stub for stub in stubs(self._server.state.server_id) if stub.model == model]
        if any(stub.is_stopped for stub in alive):
            return "one of its processes is stopped"
        expected = self._num_stubs.get(model, 0)
        if len(alive) < expected:
            return f"{expected - len(alive)} of its {expected} processes ended"
        runtime = Path(self._server.state.runtime_folder)
        if (longest := max((seconds_at_work(runtime, s.pid) for s in alive), default=0.0)) > STUCK_SECONDS:
            return f"one of its processes has been at one batch for {longest:.0f} seconds"
        return self._unanswered(model)

    def _unanswered(self, model: str) -> str | None:
        """Send the golden request twice; if only the later one is answered, a process holds the earlier one.

        If neither is answered in time but other callers' requests are, the model is busy: Triton keeps order.
        """
        with triton_grpc.InferenceServerClient(
            self._server.grpc_url, channel_args=CHANNEL_ARGUMENTS
        ) as client:
            before = _answered(client, model)
            try:
                ask(client, model, self.release, 0, self._golden[model], STUCK_SECONDS)
            except GoldenError as error:
                if _answered(client, model) == before:
                    return str(error)
            else:
                return None
            try:
                ask(client, model, self.release, 0, self._golden[model], STUCK_SECONDS)
            except GoldenError:
                return None
            return "one of its processes does not answer"


def _num_instances(folder: Path) -> int:
    return sum(group.count or 1 for group in read_config(folder / CONFIG_FILE).instance_group) or 1


def unanswered_router(repository: Path, grpc_url: str) -> str | None:
    """Send a golden request to each router of the latest release that a server has; return a problem."""
    with triton_grpc.InferenceServerClient(grpc_url, channel_args=CHANNEL_ARGUMENTS) as client:
        try:
            for release in releases(repository):
                routers = [name for name, model in release.models.items() if model.kind == "router"]
                if not all(_has(client, name, release.number) for name in routers):
                    continue
                for name in routers:
                    golden = read_goldens(release.folder(repository, name))[0]
                    ask(client, name, release, 0, golden, STUCK_SECONDS)
                return None
        except (GoldenError, InferenceServerException) as error:
            return str(error)
    return f"{grpc_url} has all routers of no release in {repository}"


def _has(client: Any, model: str, number: int) -> bool:
    return bool(client.is_model_ready(model, str(number), client_timeout=STUCK_SECONDS))


def _answered(client: Any, model: str) -> int:
    """Return how many requests a model has answered, at any version; 0 if the server does not report it."""
    try:
        told = client.get_inference_statistics(model, client_timeout=STUCK_SECONDS)
    except InferenceServerException:
        return 0
    return sum(int(one.inference_stats.success.count) for one in told.model_stats)


def main() -> None:
    """Exit with 1 and the reason if a router does not answer."""
    repository, url = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8001"
    if problem := unanswered_router(repository, url):
        sys.exit(problem)


if __name__ == "__main__":
    main()
