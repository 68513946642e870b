"""The rules of the native onnxruntime backend: which configurations it accepts, and which defaults it sets.

The rules follow `src/onnxruntime.cc` and `src/onnxruntime_utils.cc` of triton-inference-server's
onnxruntime_backend, so that a repository which loads here loads in the production container.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_MAX_BATCH_SIZE = 4  # the native backend's default for a graph with a batch dimension

# Settings that only the native backend supports; they are refused, not ignored.
_NATIVE_ONLY = ("sequence_batching", "batch_input", "batch_output")
_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

Config = Mapping[str, Any]


class ConfigRefusedError(ValueError):
    """A configuration does not fit its graph."""


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph: Triton's data type, and dims with -1 where any size is taken."""

    name: str
    data_type: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Inputs and outputs of a graph; `overridable` are initializers that a request may replace."""

    inputs: dict[str, GraphTensor]
    outputs: dict[str, GraphTensor]
    overridable: dict[str, GraphTensor]

    @staticmethod
    def of_session(session: Any) -> Graph:
        """Describe an onnxruntime session, names sorted as the native backend sorts them."""
        return Graph(
            inputs=_described(session.get_inputs()),
            outputs=_described(session.get_outputs()),
            overridable=_described(session.get_overridable_initializers()),
        )

    @property
    def can_batch(self) -> bool:
        """Whether the first dimension of every input and output is free."""
        tensors = [*self.inputs.values(), *self.outputs.values()]
        return all(tensor.dims and tensor.dims[0] == -1 for tensor in tensors)


def check_config(config: Config, graph: Graph) -> None:
    """Raise ConfigRefusedError if the native backend would refuse `config` for `graph`."""
    for field in _NATIVE_ONLY:
        if config.get(field):
            raise ConfigRefusedError(f"'{field}' needs Triton's native onnxruntime backend")
    required = [tensor for tensor in config["input"] if not tensor.get("optional")]
    if len(required) != len(graph.inputs):
        raise ConfigRefusedError(
            f"the configuration has {len(required)} inputs that are not optional, "
            f"the graph takes {len(graph.inputs)}: {', '.join(graph.inputs)}"
        )
    max_batch_size = int(config["max_batch_size"])
    for tensor in config["input"]:
        _check_input_flags(tensor, max_batch_size)
        _check_tensor("input", tensor, graph.inputs | graph.overridable, max_batch_size, exact=False)
    for tensor in config["output"]:
        _check_tensor("output", tensor, graph.outputs, max_batch_size, exact=True)


def completed_max_batch_size(config: Config, graph: Graph) -> int:
    """Return the batch size for a configuration that leaves tensors out; raises ConfigRefusedError."""
    given = int(config["max_batch_size"])
    if graph.can_batch:
        return given or DEFAULT_MAX_BATCH_SIZE
    if given:
        raise ConfigRefusedError(
            f"max_batch_size is {given}, but the first dimension of this graph is fixed: it takes no batches"
        )
    return 0


def completed_tensors(tensors: Mapping[str, GraphTensor], max_batch_size: int) -> list[dict[str, Any]]:
    """Return the configuration's entries for a graph's inputs or outputs, sorted by name."""
    first = 1 if max_batch_size else 0
    return [
        {"name": t.name, "data_type": t.data_type, "dims": list(t.dims[first:]) or [1]}
        for t in tensors.values()
    ]


def _described(nodes: Sequence[Any]) -> dict[str, GraphTensor]:
    described = {}
    for node in sorted(nodes, key=lambda node: str(node.name)):
        if node.type not in _TYPES:
            raise ConfigRefusedError(
                f"'{node.name}' of the graph has type {node.type}, which Triton cannot carry"
            )
        dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
        described[node.name] = GraphTensor(node.name, _TYPES[node.type], dims)
    return described


def _check_input_flags(tensor: Config, max_batch_size: int) -> None:
    if tensor.get("allow_ragged_batch"):
        raise ConfigRefusedError(f"input '{tensor['name']}': ragged batches need the native backend")
    if tensor.get("optional") and max_batch_size:
        raise ConfigRefusedError(
            f"input '{tensor['name']}' is optional, which a model that batches cannot have"
        )


def _check_tensor(
    role: str, tensor: Config, known: Mapping[str, GraphTensor], max_batch_size: int, *, exact: bool
) -> None:
    name, data_type = tensor["name"], tensor["data_type"]
    if name not in known:
        raise ConfigRefusedError(f"the graph has no {role} '{name}'; it has {', '.join(known) or 'none'}")
    given = known[name]
    if data_type != given.data_type:
        raise ConfigRefusedError(f"{role} '{name}' is {data_type} here and {given.data_type} in the graph")
    reshape = tensor.get("reshape")
    dims = [int(dim) for dim in (reshape["shape"] if reshape else tensor["dims"])]
    if not given.dims:
        if any(dim != 1 for dim in dims):
            raise ConfigRefusedError(
                f"{role} '{name}' is a scalar in the graph: its dims must be 1, not {dims}"
            )
        return
    if max_batch_size:
        if given.dims[0] != -1:
            raise ConfigRefusedError(
                f"{role} '{name}': max_batch_size is {max_batch_size}, but the first dimension of "
                f"{list(given.dims)} in the graph is fixed"
            )
        dims = [-1, *dims]
    fits = len(dims) == len(given.dims) and all(
        ours == theirs or (theirs == -1 and not exact) for ours, theirs in zip(dims, given.dims, strict=True)
    )
    if not fits:
        batch = " (with the batch dimension)" if max_batch_size else ""
        raise ConfigRefusedError(f"{role} '{name}' is {dims}{batch} here and {list(given.dims)} in the graph")
