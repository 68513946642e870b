"""Renders a member's `config.pbtxt` from its contract, and reads such files."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from shopsight.serving.contract import ContractError, Golden, GoldenTensor, ModelContract, TensorSpec

CONFIG_FILE = "config.pbtxt"
WARMUP_FOLDER = "warmup"
ONNX_BACKEND = "onnxruntime"
KEPT_RELEASES = 2  # the current and the previous one; the routers of each call its own members

Device = Literal["cpu", "gpu"]

_WARMUP_BATCH = 16  # as many equal requests as onnxruntime needs to lay out its memory for real batches
_NUMPY_TYPES = {"BOOL": np.bool_, "INT32": np.int32, "INT64": np.int64, "FP32": np.float32}


def render_member_config(
    contract: ModelContract,
    *,
    device: Device = "cpu",
    num_instances: int = 1,
    intra_op_threads: int = 1,
    max_queue_delay_microseconds: int = 0,
    warmup: Golden | None = None,
) -> str:
    """Return the `config.pbtxt` of an ONNX member.

    With `warmup`, the server runs the first row of that request at every load, alone and as a batch of 16,
    before the model is ready; its data must lie beside the config (`warmup_files`). With a queue delay of 0,
    requests that wait for a busy model are batched, and no request is delayed. Raises ContractError for a
    contract that the native backend would refuse.
    """
    _check(contract)
    if warmup is not None and contract.max_batch_size == 0:
        raise ContractError(f"{contract.name}: warm-up needs a member that takes batches")
    config = model_config_pb2.ModelConfig(
        name=contract.name, backend=ONNX_BACKEND, max_batch_size=contract.max_batch_size
    )
    config.version_policy.latest.num_versions = KEPT_RELEASES
    for specs, tensors in ((contract.inputs, config.input), (contract.outputs, config.output)):
        for spec in specs:
            tensors.add(name=spec.name, data_type=_data_type(spec), dims=spec.dims)
    kind = model_config_pb2.ModelInstanceGroup.Kind.Value(f"KIND_{device.upper()}")
    config.instance_group.add(kind=kind, count=num_instances)
    config.parameters["intra_op_thread_count"].string_value = str(intra_op_threads)
    if contract.max_batch_size > 1:
        config.dynamic_batching.max_queue_delay_microseconds = max_queue_delay_microseconds
    if warmup is not None:
        _add_warmup(config, contract, warmup)
    return str(text_format.MessageToString(config))


def warmup_files(warmup: Golden) -> dict[str, bytes]:
    """Return the files of a config's warm-up: name below the model's folder to content."""
    return {f"{WARMUP_FOLDER}/{tensor.name}": _one_row(tensor) for tensor in warmup.request}


def parse_config(text: str, origin: str = CONFIG_FILE) -> Any:
    """Parse a `config.pbtxt` into Triton's own message; raises ContractError naming `origin` and the line."""
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ContractError(f"{origin}: not a Triton model configuration ({error})") from error


def read_config(path: Path) -> Any:
    """Read and parse a `config.pbtxt`; raises ContractError naming the file."""
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise ContractError(f"{path}: missing; publish the model again") from error


def _check(contract: ModelContract) -> None:
    if contract.kind != "onnx":
        raise ContractError(f"{contract.name}: only members of kind 'onnx' get a rendered config")
    for spec in contract.inputs + contract.outputs:
        if any(dim < -1 or dim == 0 for dim in spec.dims) or not spec.dims:
            raise ContractError(
                f"{contract.name}: {spec.name} has dims {spec.dims}; each must be -1 or above 0"
            )
    for spec in contract.inputs:
        if spec.optional and contract.max_batch_size:
            raise ContractError(
                f"{contract.name}: {spec.name} is optional, which a batched graph cannot have"
            )


def _add_warmup(config: Any, contract: ModelContract, warmup: Golden) -> None:
    given = {tensor.name: tensor for tensor in warmup.request}
    if set(given) != {spec.name for spec in contract.inputs}:
        raise ContractError(
            f"{contract.name}: the warm-up request must give every input, got {sorted(given)}"
        )
    for batch_size in sorted({1, min(contract.max_batch_size, _WARMUP_BATCH)}):
        sample = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        for spec in contract.inputs:
            entry = sample.inputs[spec.name]
            entry.data_type = _data_type(spec)
            entry.dims.extend(given[spec.name].shape[1:])
            entry.input_data_file = spec.name


def _data_type(spec: TensorSpec) -> int:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return int(model_config_pb2.DataType.Value(f"TYPE_{name}"))


def _one_row(tensor: GoldenTensor) -> bytes:
    """Return a tensor's first row as Triton lays it out: little-endian values, BYTES with their lengths."""
    flat = np.asarray(tensor.data, dtype=object).ravel().tolist()
    row = flat[: math.prod(tensor.shape[1:])]
    if tensor.datatype == "BYTES":
        encoded = [value.encode("utf-8") for value in row]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return np.asarray(row, dtype=_NUMPY_TYPES[tensor.datatype]).tobytes()
