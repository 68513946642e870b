"""Triton's entry to the recommend router; what it does is in serving/routing/recommend.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from shopsight.serving.routing.bridge import serve
from shopsight.serving.routing.recommend import RecommendRouter


class TritonPythonModel:
    """One instance of the router, at the release whose number is its version."""

    def initialize(self, args: dict[str, str]) -> None:
        self._version = args["model_version"]
        folder = Path(args["model_repository"]) / self._version
        self._router = RecommendRouter(folder, release=self._version)

    def execute(self, requests: list[Any]) -> list[Any]:
        return serve(requests, self._router, pb_utils, self._version)
