"""Golden requests: answers of a model or router, computed from the files that will be served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shopsight.serving.contract import Datatype, Golden, GoldenTensor

Array = NDArray[Any]
_DATATYPES: dict[str, Datatype] = {"f": "FP32", "O": "BYTES", "b": "BOOL"}


def session(path: Path, num_threads: int = 1) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU, by default with one thread, as goldens must not depend on the machine.

    Waiting threads do not spin (kernels/threads.py).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def member(path: Path) -> Callable[[str, Mapping[str, Array]], dict[str, Array]]:
    """Return an `ask` for a router that answers any model's name from one graph."""
    opened = session(path)
    names = [output.name for output in opened.get_outputs()]

    def ask(_: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, opened.run(names, dict(inputs)), strict=True))

    return ask


def members_of(paths: Mapping[str, Path]) -> Callable[[str, Mapping[str, Array]], Mapping[str, Array]]:
    """Return an `ask` for a router that calls several models, each answered from its own graph."""
    asks = {name: member(path) for name, path in paths.items()}
    return lambda name, inputs: asks[name](name, inputs)


def golden(request: Mapping[str, Array], answer: Mapping[str, Array], names: Sequence[str]) -> Golden:
    """Return a golden of one request row and the outputs `names` of its answer, a batch of one."""
    return Golden(
        request=tuple(_tensor(name, value) for name, value in request.items()),
        answer=tuple(_tensor(name, answer[name]) for name in names),
    )


def _tensor(name: str, value: Array) -> GoldenTensor:
    kind = value.dtype.kind
    datatype = _DATATYPES.get(kind) or ("INT32" if value.dtype == np.int32 else "INT64")
    flat = value.reshape(-1).tolist()
    data = [one.decode() if isinstance(one, bytes) else one for one in flat]
    return GoldenTensor(name, datatype, (1, *value.shape), data)
