"""The libraries beside the base installation: which extra brings each, and what to say of a missing one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """One library.

    module: the name it is imported by. distributions: the names that it is installed by, any of which will
    do. extras: those of shopsight that bring it, one for each distribution; none for torchrec, which is
    installed without its dependencies. is_needed: whether the main job needs it.
    """

    module: str
    distributions: tuple[str, ...]
    extras: tuple[str, ...]
    is_needed: bool = False

    @property
    def installed(self) -> str:
        """Return "NAME VERSION" of the distribution that is installed, "" where it cannot be imported."""
        if not _importable(self.module):
            return ""
        for name in self.distributions:
            try:
                return f"{name} {importlib.metadata.version(name)}"
            except importlib.metadata.PackageNotFoundError:
                continue
        return f"{self.distributions[0]}, version unknown"

    @property
    def remedy(self) -> str:
        """Return the command that installs it."""
        if not self.extras:
            return f"pip install --no-deps {self.distributions[0]}, after the extra 'distributed'"
        command = f"pip install 'shopsight[{self.extras[0]}]'"
        if self.is_needed:
            return f"{command}, or 'make install' in a checkout"
        if "gpu" in self.extras:
            on_gpu = "on a machine with an NVIDIA GPU"
            return f"{command}, or [gpu] {on_gpu}" if len(self.extras) > 1 else f"{command} {on_gpu}"
        return command


def _one(module: str, distribution: str, extra: str) -> Library:
    return Library(module, (distribution,), (extra,), is_needed=extra == "train")


LIBRARIES = (
    _one("anyascii", "anyascii", "train"),
    _one("babel", "babel", "train"),
    _one("jinja2", "jinja2", "train"),
    _one("matplotlib", "matplotlib", "train"),
    _one("ml_dtypes", "ml-dtypes", "train"),
    _one("numba", "numba", "train"),
    _one("onnx", "onnx", "train"),
    _one("onnxruntime", "onnxruntime", "train"),
    _one("onnxscript", "onnxscript", "train"),
    _one("polars", "polars", "train"),
    _one("pyarrow", "pyarrow", "train"),
    _one("pydantic", "pydantic", "train"),
    _one("rapidfuzz", "rapidfuzz", "train"),
    _one("scipy", "scipy", "train"),
    _one("sklearn", "scikit-learn", "train"),
    _one("threadpoolctl", "threadpoolctl", "train"),
    _one("tokenizers", "tokenizers", "train"),
    _one("torch", "torch", "train"),
    _one("ray", "ray", "distributed"),
    Library("torchrec", ("torchrec",), ()),
    _one("iopath", "iopath", "distributed"),
    _one("pyre_extensions", "pyre-extensions", "distributed"),
    _one("tensordict", "tensordict", "distributed"),
    _one("torchmetrics", "torchmetrics", "distributed"),
    Library("fbgemm_gpu", ("fbgemm-gpu-cpu", "fbgemm-gpu"), ("cpu", "gpu")),
    _one("nvidia.dali", "nvidia-dali-cuda130", "images"),
    _one("PIL", "pillow", "images"),
    _one("transformers", "transformers", "encoders"),
    _one("peft", "peft", "encoders"),
    _one("fastexcel", "fastexcel", "excel"),
    _one("umap", "umap-learn", "explore"),
    _one("cupy", "cupy-cuda13x", "gpu"),
    _one("cudf_polars", "cudf-polars-cu13", "gpu"),
    _one("cuml", "cuml-cu13", "gpu"),
    _one("pandas", "pandas", "gpu"),
)


def named(module: str) -> Library | None:
    """Return the library that a module, or a part of it, belongs to; None for one that no extra brings."""
    for library in LIBRARIES:
        if module == library.module or module.startswith(f"{library.module}."):
            return library
    return None


def said_of(error: ModuleNotFoundError) -> str:
    """Return one line with the extra to install; "" where no extra brings what is missing."""
    library = named(error.name or "")
    if library is None:
        return ""
    return f"this needs {library.distributions[0]}, which is not installed; remedy: {library.remedy}"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # the package around it is missing, or its loading was stopped
        return False
