"""The checkout that the code runs from: its root and its commit."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import shopsight

# Of an installed package: the folder of all packages.
ROOT = Path(str(shopsight.__file__)).resolve().parent.parent


def installed_version() -> str:
    """Return the version of the installed package, "" when it runs from a checkout without installation."""
    try:
        return importlib.metadata.version("shopsight")
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """Return the commit of the code that runs, "" when it does not run from a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
