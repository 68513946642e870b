"""Errors of the server; each message names the remedy."""

from __future__ import annotations


class ServerError(RuntimeError):
    """The Triton server cannot do what was asked."""


class ServerNotRunningError(ServerError):
    """No live server serves this repository."""


class PortInUseError(ServerError):
    """A port that the server should listen on is taken."""


class ModelLoadError(ServerError):
    """Triton refused a model; `model` is its name and `reason` what Triton said, shortened."""

    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"Triton refused model '{model}': {reason}")
        self.model = model
        self.reason = reason
