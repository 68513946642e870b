"""Finds the Triton server of this machine and prepares the private folder of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import shopsight
from shopsight import kernels, serving
from shopsight.kernels import threads
from shopsight.serving import at_work

ENVIRONMENT_VARIABLE = "SHOPSIGHT_TRITON_ENV"
_STAND_IN = Path(__file__).parent / "backends" / "onnxruntime" / "model.py"
_NO_BYTECODE = "no-bytecode"  # a folder that is never made
# Every stub runs this first; stubs ignore PYTHON* variables. It disables bytecode files beside sources: a
# planted .pyc would run instead of a verified model.py. NumPy, which all stubs need, is imported before, with
# its installed bytecode. It also makes the stub's shared memory private before the first request: Triton
# creates it readable to all users, whatever the umask.
_STUB_SETTINGS = """
import os, sys
import numpy
sys.dont_write_bytecode, sys.pycache_prefix = True, {nowhere!r}
with open("/proc/self/cmdline", "rb") as arguments:
    region = arguments.read().split(b"\\0")[2:3]
if region and region[0].startswith(b"shopsight-"):
    os.chmod(b"/dev/shm/" + region[0], 0o600)
"""
# One thread per library call, as a server runs many models on few cores.
_BOUNDED_THREADS = threads.environment(1)


class TritonMissingError(RuntimeError):
    """No usable Triton server is installed here."""


@dataclass(frozen=True)
class TritonInstallation:
    """A Triton server: its program, and the Python environment it came with (None: native, in PATH)."""

    binary: Path
    python_environment: Path | None

    def __str__(self) -> str:
        return f"{self.binary} ({'native' if self.is_native else 'python backend, onnxruntime through it'})"

    @property
    def is_native(self) -> bool:
        """Whether this is a full server, as in NVIDIA's container, with its own onnxruntime backend."""
        return self.python_environment is None


def find_triton() -> TritonInstallation:
    """Find the server in $SHOPSIGHT_TRITON_ENV, else in PATH, else in `.venv-triton` beside the packages.

    Raises TritonMissingError with the remedy.
    """
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return _in_environment(Path(named).absolute(), f"{ENVIRONMENT_VARIABLE}={named}")
    if native := shutil.which("tritonserver"):
        return TritonInstallation(Path(native), None)
    default = Path(serving.__file__).resolve().parent.parent / ".venv-triton"
    return _in_environment(default, "no tritonserver in PATH")


def _in_environment(environment: Path, looked_at: str) -> TritonInstallation:
    found = sorted(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver"))
    if not found:
        raise TritonMissingError(
            f"{looked_at}, and {environment} holds no Triton server; run 'make install', "
            f"or name its environment in {ENVIRONMENT_VARIABLE}"
        )
    return TritonInstallation(found[0], environment)


@dataclass(frozen=True)
class Runtime:
    """How to run a server: its program with the first arguments, environment and working folder."""

    arguments: list[str]
    environment: dict[str, str]
    working_folder: Path


def prepare_runtime(installation: TritonInstallation, folder: Path) -> Runtime:
    """Fill `folder` with the files of one server.

    The folder gets our package (`python/`: `kernels` and `serving` are linked one by one, so that nothing
    else of this process's environment, such as its numpy, reaches the server's Python) and, unless the
    server is native, the backend directory (copies: Triton refuses links).
    """
    packages = folder / "python"
    ours = packages / shopsight.__name__
    ours.mkdir(parents=True)
    (ours / "__init__.py").symlink_to(Path(str(shopsight.__file__)).resolve())
    for package in (kernels, serving):
        source = Path(str(package.__file__)).resolve().parent
        (ours / source.name).symlink_to(source, target_is_directory=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    (folder / at_work.FOLDER).mkdir()
    environment |= _BOUNDED_THREADS | {
        at_work.FOLDER_VARIABLE: str(folder / at_work.FOLDER),
        "PYTHONPATH": str(packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPYCACHEPREFIX": str(folder / _NO_BYTECODE),
    }
    arguments = [str(installation.binary)]
    if installation.python_environment is not None:
        backends = _assemble_backends(installation.binary, folder)
        caches = installation.binary.parent.parent / "caches"
        arguments += [f"--backend-directory={backends}", f"--cache-directory={caches}"]
        environment |= _search_paths(installation.binary, installation.python_environment, folder)
    # The bundled python backend ignores PYTHONPATH but searches the working folder; a native one may not.
    return Runtime(arguments, environment, packages)


def _assemble_backends(binary: Path, folder: Path) -> Path:
    bundle = binary.parent.parent
    backends = folder / "backends"
    python = backends / "python"
    shutil.copytree(bundle / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
    python_version = binary.parents[4].name.removeprefix("python")
    stub = bundle / "python_backend_stubs" / python_version / "triton_python_backend_stub"
    if not stub.is_file():
        raise TritonMissingError(
            f"{bundle.parent.name} has no backend for Python {python_version}; "
            "run 'make install' with Python 3.11"
        )
    shutil.copy(stub, python / stub.name)
    (python / stub.name).chmod(0o755)
    (backends / "onnxruntime").mkdir()
    shutil.copy(_STAND_IN, backends / "onnxruntime" / _STAND_IN.name)
    return backends


def _search_paths(binary: Path, python_environment: Path, folder: Path) -> dict[str, str]:
    asked = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"
    python = python_environment / "bin" / "python"
    completed = subprocess.run([python, "-I", "-c", asked], capture_output=True, text=True, timeout=60)
    if completed.returncode:
        raise TritonMissingError(f"{python} does not run; remove {python_environment} and run 'make install'")
    libraries = [str(binary.parents[3] / "nvidia_pytriton.libs"), completed.stdout.strip()]
    private = _private_environment(python_environment, binary.parents[3], folder)
    return {
        "PATH": f"{private / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "VIRTUAL_ENV": str(private),
    }


def _private_environment(python_environment: Path, installed: Path, folder: Path) -> Path:
    """Make an environment with the server's packages in which every stub runs our settings first."""
    private = folder / "environment"
    packages = private / installed.relative_to(python_environment)
    packages.mkdir(parents=True)
    (packages / "installed.pth").write_text(f"{installed}\n", encoding="utf-8")
    settings = _STUB_SETTINGS.format(nowhere=str(folder / _NO_BYTECODE))
    (packages / "sitecustomize.py").write_text(settings, encoding="utf-8")
    shutil.copy(python_environment / "pyvenv.cfg", private / "pyvenv.cfg")
    (private / "bin").mkdir()
    for name in ("python", "python3", installed.parent.name):
        (private / "bin" / name).symlink_to(python_environment / "bin" / "python")
    return private
