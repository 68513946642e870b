"""Old import names give the present modules, in a checkout and with a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import shopsight
from shopsight.old_names import _MOVED

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import importlib, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import kernels, serving, training
said = [str(warning.message) for warning in caught if warning.category is DeprecationWarning]
assert [line.split("'")[1] for line in said] == ["kernels", "serving", "training"], said
from shopsight.old_names import _MOVED
stayed = ("training.recommend.shop", "kernels.als", "serving.client")
for old, new in [*_MOVED.items(), *zip(stayed, stayed)]:
    module, present = importlib.import_module(old), importlib.import_module(f"shopsight.{new}")
    assert module is present, old
    assert present.__spec__.name == f"shopsight.{new}", old
from training.recommend.mf import DivergenceError, MatrixFactorization, MFConfig
import shopsight
assert MatrixFactorization is shopsight.MatrixFactorization
print(len(_MOVED))
"""


def test_every_old_name_is_the_present_module() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(_MOVED) > 100


def test_the_public_api_is_what_it_lists() -> None:
    code = (
        "import shopsight; print(sorted(n for n in shopsight.__all__ if getattr(shopsight, n) is not None))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(shopsight.__all__)
    code = (
        "import shopsight, sys; shopsight.ShopsightClient;"
        "print({'torch', 'polars', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
