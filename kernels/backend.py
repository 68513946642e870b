"""Choose the backend, cpu or cuda, for our kernels and for the libraries used beside them."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from shopsight.kernels.threads import num_threads

Requested = Literal["auto", "cpu", "cuda"]
LEAST_CAPABILITY = (8, 0)  # of a GPU: the kernels copy to shared memory asynchronously
BACKEND_VARIABLE = "SHOPSIGHT_BACKEND"
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # of cgroups before version 2
)


class BackendUnavailable(RuntimeError):  # noqa: N818 - named for its cause, like FileNotFound
    """The backend asked for by name is not available on this machine; the message has the remedy."""


@dataclass(frozen=True)
class Backend:
    """The device that work runs on; `device_memory_bytes` is None where no memory limit is known."""

    name: Literal["cpu", "cuda"]
    description: str
    num_threads: int
    device_memory_bytes: int | None


def resolve(requested: str = "auto") -> Backend:
    """Return the backend for a request of "auto", "cpu" or "cuda".

    "auto" follows the environment variable SHOPSIGHT_BACKEND if it is set; otherwise it takes the GPU if one
    is usable. No CUDA context is created.

    Raises:
        BackendUnavailable: the backend asked for by name is not available.
        ValueError: `requested` or the variable has another value.
    """
    chosen = _checked_name(requested, "requested")
    if chosen == "auto":
        chosen = _checked_name(os.environ.get(BACKEND_VARIABLE, "auto"), BACKEND_VARIABLE)
    if chosen == "cpu":
        return _cpu()
    obstacle = cuda_obstacle()
    if obstacle is None:
        return _cuda()
    if chosen == "cuda":
        raise BackendUnavailable(f"the cuda backend was asked for but {obstacle}; or ask for 'cpu' or 'auto'")
    return _cpu()


def available() -> tuple[Backend, ...]:
    """Return every backend that this machine has, cpu first."""
    return (_cpu(),) if cuda_obstacle() else (_cpu(), _cuda())


def cuda_obstacle() -> str | None:
    """Return why the GPU cannot be used, with the remedy, or None if it can be used."""
    if importlib.util.find_spec("cupy") is None:
        return "cupy is not installed (remedy: pip install 'shopsight[gpu]')"
    try:
        import cupy

        num_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # cupy raises types of its own, and ImportError where libraries are missing
        return f"no CUDA device answers ({error}; remedy: a machine with an NVIDIA GPU and its driver)"
    if num_devices == 0:
        return "no CUDA device is visible (remedy: look at nvidia-smi and CUDA_VISIBLE_DEVICES)"
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    capability = properties["major"], properties["minor"]
    if capability < LEAST_CAPABILITY:
        found, needed = (".".join(map(str, version)) for version in (capability, LEAST_CAPABILITY))
        return (
            f"the {properties['name'].decode()} has compute capability {found} and {needed} is needed "
            "(remedy: an A100, an RTX 30 or a later GPU)"
        )
    return None


def polars_engine(requested: str = "auto") -> Any:
    """Return the `engine` of `LazyFrame.collect`: "streaming", or a GPUEngine without fallback to the CPU."""
    if resolve(requested).name == "cpu":
        return "streaming"
    _require("cudf_polars", "the cuda backend needs cudf-polars for tables")
    import polars

    return polars.GPUEngine(raise_on_fail=True)


def estimators(requested: str = "auto") -> SimpleNamespace:
    """Return the classes KMeans, HDBSCAN, PCA, TruncatedSVD and NearestNeighbors, and the library's name.

    They are cuML's classes on the GPU and scikit-learn's on the CPU. Both have the same interface but not the
    same arguments: cuML's PCA takes no `random_state`, and its KMeans has another initialisation.
    tests/kernels/test_estimators.py checks that our calls pass only arguments that both accept.
    """
    if resolve(requested).name == "cpu":
        from sklearn.cluster import HDBSCAN, KMeans
        from sklearn.decomposition import PCA, TruncatedSVD
        from sklearn.neighbors import NearestNeighbors

        library = "scikit-learn"
        hdbscan: Any = partial(HDBSCAN, copy=True)  # cuML's always copies, and takes no such argument
    else:
        _require("cuml", "the cuda backend needs cuML for estimators")
        from cuml.cluster import HDBSCAN, KMeans
        from cuml.decomposition import PCA, TruncatedSVD
        from cuml.neighbors import NearestNeighbors

        library, hdbscan = "cuML", HDBSCAN
    return SimpleNamespace(
        library=library,
        KMeans=KMeans,
        HDBSCAN=hdbscan,
        PCA=PCA,
        TruncatedSVD=TruncatedSVD,
        NearestNeighbors=NearestNeighbors,
    )


def umap(requested: str = "auto") -> Any:
    """Return the UMAP class of cuML (GPU) or umap-learn (CPU), or None if umap-learn is not installed.

    It is not part of `estimators`, because umap-learn takes about fifteen seconds to import.
    """
    if resolve(requested).name == "cuda":
        _require("cuml", "the cuda backend needs cuML for UMAP")
        from cuml.manifold import UMAP
    elif importlib.util.find_spec("umap") is None:
        return None
    else:
        from umap import UMAP
    return UMAP


def _require(module: str, need: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise BackendUnavailable(f"{need}, which is not installed; remedy: pip install 'shopsight[gpu]'")


def _checked_name(name: str, source: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"{source}={name!r}: the backend must be 'auto', 'cpu' or 'cuda'")
    return name


def _cpu() -> Backend:
    count = num_threads()
    return Backend("cpu", f"{platform.machine()} CPU, {count} threads", count, _host_memory_bytes())


def _cuda() -> Backend:
    import cupy

    device = cupy.cuda.runtime.getDevice()
    properties = cupy.cuda.runtime.getDeviceProperties(device)
    memory = int(properties["totalGlobalMem"])
    description = f"{properties['name'].decode()} with {memory / 2**30:.0f} GiB"
    return Backend("cuda", description, num_threads(), memory)


def _host_memory_bytes() -> int | None:
    """Return the memory of the machine, or the limit of its container if that is lower."""
    try:
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, OSError, ValueError):
        return None
    for path in CONTAINER_LIMITS:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min(found)
