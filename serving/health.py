"""Whether each model of a release answers: its stubs live, and its first golden request gets its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from serving.contract import read_goldens
from serving.golden import CHANNEL_ARGUMENTS, GoldenError, ask
from serving.processes import stubs
from serving.release import Release
from serving.server import TritonServer
from serving.triton_config import CONFIG_FILE, read_config

# A model that answers nobody for so long is stuck; one that answers others meanwhile is busy.
STUCK_SECONDS = 3.0


class Health:
    """What is wrong with the models of one release in one server.

    A native server runs ONNX members without stubs; `runs_members_in_stubs` says that this one does not.
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
        """Say why a model does not answer; None when it does."""
        alive = [stub for stub in stubs(self._server.state.server_id) if stub.model == model]
        if any(stub.is_stopped for stub in alive):
            return "one of its processes is stopped"
        expected = self._num_stubs.get(model, 0)
        if len(alive) < expected:
            return f"{expected - len(alive)} of its {expected} processes ended"
        with triton_grpc.InferenceServerClient(
            self._server.grpc_url, channel_args=CHANNEL_ARGUMENTS
        ) as client:
            before = _answered(client, model)
            try:
                ask(client, model, self.release, 0, self._golden[model], STUCK_SECONDS)
            except GoldenError as error:
                return None if _answered(client, model) > before else str(error)
        return None


def _num_instances(folder: Path) -> int:
    return sum(group.count or 1 for group in read_config(folder / CONFIG_FILE).instance_group) or 1


def _answered(client: Any, model: str) -> int:
    """How many requests a model has answered, at any version; 0 when the server does not say."""
    try:
        told = client.get_inference_statistics(model, client_timeout=STUCK_SECONDS)
    except InferenceServerException:
        return 0
    return sum(int(one.inference_stats.success.count) for one in told.model_stats)
