"""Triton's entry to the insight router; what it does is in serving/routing/insight.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from shopsight.serving.routing.bridge import serve_async
from shopsight.serving.routing.insight import InsightRouter


class TritonPythonModel:
    """One instance of the router, at the release whose number is its version."""

    def initialize(self, args: dict[str, str]) -> None:
        self._version = args["model_version"]
        folder = Path(args["model_repository"]) / self._version
        self._router = InsightRouter(folder, release=self._version)

    async def execute(self, requests: list[Any]) -> list[Any]:
        return await serve_async(requests, self._router, pb_utils, self._version)
