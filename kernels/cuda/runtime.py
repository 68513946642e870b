"""The device interface of the kernels: arrays, compilation, launches. Tests replace it by a CPU emulation."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SOURCES = Path(__file__).parent
_NUM_STREAMS = 4
_RESERVED_SHARED = 1024  # bytes that each block takes more than it asks for
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


@dataclass(frozen=True)
class Kernel:
    """One `extern "C"` function of a source file, with values for its compile-time constants."""

    source: str
    name: str
    defines: tuple[tuple[str, int], ...]


class Device(Protocol):
    """`xp` is the array module (cupy; numpy in tests); sizes are in bytes."""

    xp: Any
    shared_bytes: int
    num_multiprocessors: int

    def launch(
        self, kernel: Kernel, blocks: tuple[int, int], threads: int, shared: int, arguments: Sequence[Any]
    ) -> None: ...

    def run_concurrently(self, jobs: Sequence[Callable[[], None]]) -> None: ...

    def constant(self, key: Hashable, make: Callable[[], Any]) -> Any: ...


@functools.cache
def device() -> Device:
    """Return the current GPU."""
    return CudaDevice()


def assemble_source(name: str) -> str:
    """Return a source file in which each of our headers replaces its first #include.

    cupy's cache identifies a kernel by its text, so that it would miss changes of a header that the compiler
    reads itself.
    """
    seen: set[str] = set()

    def expand(file: str) -> str:
        def include(match: re.Match[str]) -> str:
            if match[1] in seen:
                return ""
            seen.add(match[1])
            return expand(match[1])

        text = (SOURCES / file).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(include, text)

    return expand(name)


class CudaDevice:
    """The current GPU, through cupy. Launches go to cupy's current stream and never wait."""

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        attributes = cupy.cuda.Device().attributes
        self.shared_bytes = int(attributes["MaxSharedMemoryPerBlockOptin"])
        self.num_multiprocessors = int(attributes["MultiProcessorCount"])
        self._multiprocessor_shared = int(attributes["MaxSharedMemoryPerMultiprocessor"])
        self._streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(_NUM_STREAMS)]
        self._constants: dict[Hashable, Any] = {}
        self._modules: dict[tuple[Any, ...], Any] = {}
        self._functions: dict[Kernel, Any] = {}

    def launch(
        self, kernel: Kernel, blocks: tuple[int, int], threads: int, shared: int, arguments: Sequence[Any]
    ) -> None:
        """Start `blocks` blocks of `threads` threads with `shared` bytes of shared memory.

        Arguments are device arrays, or NumPy scalars of the type that the kernel declares; None is a null
        pointer.
        """
        if blocks[0] == 0 or blocks[1] == 0:
            return
        self._function(kernel, shared)(
            blocks, (threads,), tuple(0 if a is None else a for a in arguments), shared_mem=shared
        )

    def run_concurrently(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run independent jobs on several streams, started in the order given.

        The blocks of the next job fill the multiprocessors that the last blocks of a job leave idle. Later
        work on the current stream waits for all of them; the host does not wait.
        """
        current = self.xp.cuda.get_current_stream()
        begin = current.record()
        used = self._streams[: len(jobs)]
        for stream in used:
            stream.wait_event(begin)
        for number, job in enumerate(jobs):
            with used[number % len(used)]:
                job()
        for stream in used:
            current.wait_event(stream.record())

    def constant(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return a small array that is copied to the device once; `make` returns it on the host."""
        if key not in self._constants:
            self._constants[key] = self.xp.asarray(make())
        return self._constants[key]

    def _function(self, kernel: Kernel, shared: int) -> Any:
        function = self._functions.get(kernel)
        if function is None:
            module = self._module(kernel.source, kernel.defines)
            function = self._functions[kernel] = module.get_function(kernel.name)
            blocks = dict(kernel.defines).get("BLOCKS")
            if blocks:  # as many as the kernel was compiled for share a multiprocessor
                wanted = 100 * blocks * (shared + _RESERVED_SHARED) / self._multiprocessor_shared
                function.preferred_shared_memory_carveout = min(100, math.ceil(wanted))
        if shared > self.shared_bytes:
            raise ValueError(
                f"{kernel.name}: a block of {shared:,} bytes of shared memory, and this GPU has "
                f"{self.shared_bytes:,}; use fewer factors or the cpu backend"
            )
        if shared > 48 * 1024:
            function.max_dynamic_shared_size_bytes = shared
        return function

    def _module(self, source: str, defines: tuple[tuple[str, int], ...]) -> Any:
        module = self._modules.get((source, defines))
        if module is None:
            options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defines))
            module = self.xp.RawModule(code=assemble_source(source), options=options, backend="nvrtc")
            self._modules[source, defines] = module
        return module
