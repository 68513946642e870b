"""ONNX graphs written node by node, for models with few operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 20
_MAX_BYTES = 2**31 - 1
Tensors = Mapping[str, tuple[Any, Sequence[int | str]]]


class GraphTooLarge(ValueError):  # noqa: N818 - reads as what happened
    """The weights do not fit into one ONNX file."""


class OnnxGraph:
    """Collects nodes and constants in order, then checks and saves the graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: Any) -> str:
        """Add a constant tensor and return its name; raises ValueError if the name has another value."""
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        if self._constants.setdefault(name, tensor) != tensor:
            raise ValueError(f"constant {name} already has another value")
        return name

    def node(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        output = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def nodes(self, op: str, *inputs: str, outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node of several outputs and return their names."""
        self._nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
        return outputs

    def save(self, path: Path, *, name: str, inputs: Tensors, outputs: Tensors) -> None:
        """Check and write the graph; tensors are (NumPy dtype, dims), a named dim is dynamic.

        Raises GraphTooLarge when the constants pass the 2 GiB that one ONNX file holds.
        """
        size = sum(len(constant.raw_data) for constant in self._constants.values())
        if size > _MAX_BYTES:
            raise GraphTooLarge(f"{path}: weights of {size} bytes; one ONNX file holds {_MAX_BYTES}")
        graph = helper.make_graph(
            self._nodes, name, _infos(inputs), _infos(outputs), initializer=list(self._constants.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9, producer_name="shopsight"
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def _infos(tensors: Tensors) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(dims))
        for name, (dtype, dims) in tensors.items()
    ]
