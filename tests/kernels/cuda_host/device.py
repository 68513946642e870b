"""A `Device` that runs the CUDA sources on the CPU (host_cuda.h says what that proves and what it cannot)."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.kernels.cuda.runtime import Kernel, assemble_source

HERE = Path(__file__).parent
KERNEL_NAME = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\(')
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-DSHOPSIGHT_HOST", "-Wno-unknown-pragmas", f"-I{HERE}")


_WATCHED = ("-fsanitize=thread", "-g")
_PLACE = re.compile(r"\[([^\]]+)\+(0x[0-9a-f]+)\]")


class KernelFault(AssertionError):  # noqa: N818 - a fault of the kernel under test
    """What the harness found: a barrier not reached by all, an access outside an array, lanes out of step."""


class HostDevice:
    """`order` is the order in which threads take their turns: 0 ascending, 1 descending, 2 shuffled."""

    xp = np
    num_multiprocessors = 2

    def __init__(self, order: int = 0, shared_bytes: int = 227 * 1024, *, watch_races: bool = False) -> None:
        self.order = order
        self.shared_bytes = shared_bytes
        self.watch_races = watch_races

    def run_concurrently(self, jobs: Sequence[Callable[[], None]]) -> None:
        """One after the other, backwards: jobs must not depend on each other."""
        for job in reversed(jobs):
            job()

    def constant(self, key: Hashable, make: Callable[[], Any]) -> Any:
        del key
        return make()

    def launch(
        self, kernel: Kernel, blocks: tuple[int, int], threads: int, shared: int, arguments: Sequence[Any]
    ) -> None:
        """As on the GPU; every array ends at a forbidden page while the kernel runs."""
        if blocks[0] == 0 or blocks[1] == 0:
            return
        assert threads <= 1024 and shared <= self.shared_bytes, (threads, shared)
        run_source(
            assemble_source(kernel.source),
            kernel.name,
            kernel.defines,
            blocks,
            threads,
            shared,
            arguments,
            self.order,
            watch_races=self.watch_races,
        )


def run_source(
    source: str,
    name: str,
    defines: Sequence[tuple[str, int]],
    blocks: tuple[int, int],
    threads: int,
    shared: int,
    arguments: Sequence[Any],
    order: int = 0,
    *,
    watch_races: bool = False,
) -> None:
    """Builds the source if need be and runs one launch of its function `name`."""
    library = _library(source, tuple(defines), watch_races)
    entry = getattr(library, f"run_{name}")
    guarded = {id(a): _Guarded(a) for a in arguments if isinstance(a, np.ndarray)}
    values = [_value(a, guarded) for a in arguments]
    addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    grid = (ctypes.c_uint * 3)(*blocks, 1)
    message = _scheduler().host_launch(entry, grid, threads, ctypes.c_size_t(shared), addresses, order)
    for array in guarded.values():
        array.release()
    if message:
        raise KernelFault(f"{name}: {message.decode()}")
    if watch_races and (race := _scheduler().host_race().decode()):
        raise KernelFault(f"{name}: {_PLACE.sub(_line_of, race)}")


def _line_of(place: re.Match[str]) -> str:
    """The line of the kernel's source that an address of its library belongs to."""
    command = ["addr2line", "-e", place[1], place[2]]
    done = subprocess.run(command, capture_output=True, text=True) if shutil.which("addr2line") else None
    if done is None or done.returncode:
        return place[0]
    path, _, line = done.stdout.strip().rpartition(":")
    number = int(line.split()[0]) if line.split()[0].isdigit() else 0
    lines = Path(path).read_text().splitlines() if Path(path).is_file() else []
    return f"[{lines[number - 1].strip()}]" if 0 < number <= len(lines) else place[0]


class _Guarded:
    """A copy of an array that ends where memory may not be touched, copied back on release."""

    def __init__(self, array: np.ndarray) -> None:
        assert array.flags.c_contiguous, "kernels take contiguous arrays"
        self.array, self.mapped = array, ctypes.c_size_t()
        self.address = _scheduler().host_alloc(ctypes.c_size_t(array.nbytes), ctypes.byref(self.mapped))
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)

    def release(self) -> None:
        if self.array.flags.writeable:
            ctypes.memmove(self.array.ctypes.data, self.address, self.array.nbytes)
        _scheduler().host_free(ctypes.c_void_p(self.address), ctypes.c_size_t(self.array.nbytes), self.mapped)


def _value(argument: Any, guarded: dict[int, _Guarded]) -> Any:
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(guarded[id(argument)].address)
    assert isinstance(argument, np.generic), f"scalars need a NumPy type, not {type(argument).__name__}"
    return np.ctypeslib.as_ctypes_type(argument.dtype)(argument.item())


@functools.cache
def _scheduler() -> Any:
    text = "".join((HERE / name).read_text() for name in ("host_cuda.cpp", "host_cuda.h", "races.h"))
    path = _build(HERE / "host_cuda.cpp", "scheduler" + text, ("-O2",))
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.host_launch.restype = ctypes.c_char_p
    library.host_race.restype = ctypes.c_char_p
    library.host_alloc.restype = ctypes.c_void_p
    return library


@functools.cache
def _library(source: str, defines: tuple[tuple[str, int], ...], watch_races: bool) -> Any:
    _scheduler()
    text = source + "".join(f"\nHOST_KERNEL({kernel})" for kernel in KERNEL_NAME.findall(source)) + "\n"
    options = tuple(f"-D{key}={value}" for key, value in defines) + (_WATCHED if watch_races else ())
    header = (HERE / "host_cuda.h").read_text()
    path = _build_folder() / (
        hashlib.sha256((text + header + repr(options)).encode()).hexdigest()[:24] + ".cpp"
    )
    path.write_text(text)
    return ctypes.CDLL(str(_build(path, text + header + repr(options), options)))


def _build_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"shopsight-cuda-host-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _build(source: Path, key: str, options: Sequence[str]) -> Path:
    target = _build_folder() / (hashlib.sha256(key.encode()).hexdigest()[:24] + ".so")
    if not target.exists():
        compiler = shutil.which("g++")
        assert compiler, "the host harness needs g++"
        partial = target.with_suffix(f".{os.getpid()}")
        # Linked by itself, or the sanitizer's own runtime would come along.
        for command in (
            [*FLAGS, *options, "-c", "-o", f"{partial}.o", str(source)],
            ["-shared", "-o", str(partial), f"{partial}.o", "-ldl"],
        ):
            done = subprocess.run([compiler, *command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        Path(f"{partial}.o").unlink()
        partial.rename(target)
    return target
