"""What this machine has, and which backend each part of Shopsight uses here."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from shopsight.serving.pseudonym import key_path
from shopsight.training.artifacts.checkout import ROOT, installed_version
from shopsight.training.cli.libraries import LIBRARIES, Library, named


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
            table.add_row(f.part, f"[{colour}]{escape(f.found)}[/{colour}]", "" if f.ok else escape(f.remedy))
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
    return [_library(one) for one in LIBRARIES]


def _library(library: Library) -> Finding:
    found = library.installed
    name, _, version = found.partition(" ")
    if found:
        return Finding(name, version, True, library.is_needed)
    return Finding(library.distributions[0], "not installed", False, library.is_needed, library.remedy)


def _backends() -> list[Finding]:
    """What each part runs on here: a backend is named only where its libraries are installed."""
    from shopsight.kernels import backend

    try:
        here = backend.resolve("auto")
    except (backend.BackendUnavailable, ValueError) as error:  # what SHOPSIGHT_BACKEND asks for
        return [Finding("backend of kernels", "none", False, True, str(error))]
    on_gpu = here.name == "cuda"
    tables = ("Polars on GPU", "cudf_polars") if on_gpu else ("Polars on CPU", "polars")
    clustering = ("cuML", "cuml") if on_gpu else ("scikit-learn", "sklearn")
    return [
        _backend("kernels", f"{here.name}: {here.description}", "cupy" if on_gpu else "numba"),
        _backend("tables", *tables),
        _backend("clustering", *clustering),
        _backend("language", "torch on CPU", "torch"),
        _backend("embedding", "TorchRec", "torchrec", "fbgemm_gpu", "ray", needed=False),
        _backend("pictures", "DALI", "nvidia.dali", needed=False),
    ]


def _backend(part: str, name: str, *modules: str, needed: bool = True) -> Finding:
    libraries = [library for library in map(named, modules) if library is not None]
    for library in libraries:
        if not library.installed:
            lacking = f"none: {library.distributions[0]} is not installed"
            return Finding(f"backend of {part}", lacking, False, needed, library.remedy)
    return Finding(f"backend of {part}", name, True, needed)


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
