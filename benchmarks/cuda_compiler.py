"""Compiles CUDA sources without a device: NVRTC from the wheel `nvidia-cuda-nvrtc`, else nvcc on the path."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from shopsight.kernels.cuda.runtime import Kernel, assemble_source

NONE_FOUND = "no CUDA compiler: pip install 'nvidia-cuda-nvrtc==13.0.*' (90 MB), or put nvcc on the path"
_REPORT = re.compile(
    r"Function properties for (\w+)\s+(?:ptxas +\. +)?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


class Resources(NamedTuple):
    """What ptxas reports of one kernel."""

    registers: int
    stack_bytes: int
    spill_bytes: int


# What cupy adds to the options of a RawModule.
_AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")


class Compiled(NamedTuple):
    """The compiler's log and the machine code."""

    log: str
    code: bytes


def compile_kernel(kernel: Kernel, architecture: int) -> dict[str, Resources]:
    """Compile a kernel's source to machine code for sm_`architecture`; returns every function's resources."""
    return {
        name: Resources(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in _REPORT.findall(_compiled(kernel, architecture).log)
    }


def machine_code(kernel: Kernel, architecture: int) -> bytes:
    """Compile a kernel's source to a cubin for sm_`architecture`."""
    return _compiled(kernel, architecture).code


def _compiled(kernel: Kernel, architecture: int) -> Compiled:
    compiler = find_compiler()
    assert compiler is not None, NONE_FOUND
    defines = [f"-D{name}={value}" for name, value in kernel.defines]
    return compiler(assemble_source(kernel.source), ["-std=c++17", f"-arch=sm_{architecture}", *defines])


@functools.cache
def find_compiler() -> Callable[[str, list[str]], Compiled] | None:
    """A function from source and options to what was compiled, or None."""
    for folder in _nvidia_folders():
        for library in sorted(folder.glob("*/lib/libnvrtc.so.1*")):
            builtins = next(library.parent.glob("libnvrtc-builtins.so.1*"))
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # it is looked up by name, not by folder
            return functools.partial(_nvrtc, ctypes.CDLL(str(library)))
    return _nvcc if shutil.which("nvcc") else None


def _nvidia_folders() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    return [Path(p) for p in spec.submodule_search_locations or ()] if spec else []


def _nvrtc(library: ctypes.CDLL, source: str, options: list[str]) -> Compiled:
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    encoded = [o.encode() for o in (*options, *_AS_CUPY, "--ptxas-options=-v")]
    failed = library.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert not failed, log.value.decode()
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, code)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(log.value.decode(), code.raw)


def _nvcc(source: str, options: list[str]) -> Compiled:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(source)
        target = Path(folder) / "kernel.cubin"
        command = ["nvcc", *options, "-ftz=true", "-cubin", "-Xptxas", "-v", "-o", str(target), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return Compiled(done.stderr, target.read_bytes())
