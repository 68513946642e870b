"""What this machine has, and which backend each part of Shopsight uses here."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from shopsight.serving.pseudonym import key_path
from shopsight.training.artifacts.checkout import ROOT, installed_version

NEEDED = ("numpy", "scipy", "polars", "numba", "scikit-learn", "torch", "onnx", "onnxruntime", "tokenizers")
OPTIONAL = (
    "ray",
    "torchrec",
    "fbgemm-gpu",
    "nvidia-dali-cuda130",
    "cupy-cuda13x",
    "cudf-polars-cu13",
    "cuml-cu13",
)


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `needed` says whether the main job stands without it."""

    part: str
    found: str
    ok: bool
    needed: bool = True
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """True when nothing that is needed is missing."""
        return all(f.ok for f in self.findings if f.needed)

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as JSON-ready data."""
        return {"ready": self.ready, "findings": [vars(f) for f in self.findings]}

    def table(self) -> Table:
        """Return the findings as a table for people."""
        table = Table(title="shopsight doctor")
        for column in ("part", "here", "remedy"):
            table.add_column(column)
        for f in self.findings:
            colour = "green" if f.ok else ("red" if f.needed else "yellow")
            table.add_row(f.part, f"[{colour}]{f.found}[/{colour}]", "" if f.ok else f.remedy)
        return table


def examine() -> Examination:
    """Look at packages, backends, the Triton at hand and the key; changes nothing."""
    return Examination((_machine(), _own_package(), *_libraries(), *_backends(), _triton(), _key()))


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0))
    return Finding("machine", f"{cores} cores, Python {sys.version.split()[0]}", sys.version_info >= (3, 11))


def _own_package() -> Finding:
    """What `import shopsight` gives, against what is installed: a copy elsewhere on the path hides it."""
    return Finding("package shopsight", f"{installed_version() or 'not installed'}, from {ROOT}", True)


def _libraries() -> list[Finding]:
    return [_library(name, needed=True) for name in NEEDED] + [
        _library(name, needed=False) for name in OPTIONAL
    ]


def _library(name: str, *, needed: bool) -> Finding:
    remedy = "make install" if needed else "extras 'gpu' and 'distributed', where they are wanted"
    try:
        return Finding(name, importlib.metadata.version(name), True, needed)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", False, needed, remedy)


def _backends() -> list[Finding]:
    from shopsight.kernels import backend

    here = backend.resolve("auto")
    estimators = "cuML" if here.name == "cuda" else "scikit-learn"
    return [
        Finding("backend of kernels", f"{here.name}: {here.description}", True),
        Finding("backend of tables", "Polars on CPU", True),
        Finding("backend of clustering", estimators, True),
        Finding("backend of language", "torch on CPU", True),
    ]


def _triton() -> Finding:
    from shopsight.serving.server import find_triton

    try:
        found = find_triton()
    except RuntimeError as error:
        return Finding("Triton server", "none", False, True, str(error))
    return Finding("Triton server", str(found), True)


def _key() -> Finding:
    path = key_path()
    return Finding(
        "pseudonymisation key",
        "present" if path.is_file() else f"none at {path}",
        path.is_file(),
        False,
        "shopsight key create",
    )
