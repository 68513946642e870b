"""Run ONNX graphs as Triton's native `onnxruntime` backend does, through the python backend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from shopsight.serving.at_work import AtWork
from shopsight.serving.backends.onnxruntime.rules import (
    ConfigRefusedError,
    Graph,
    check_config,
    completed_max_batch_size,
    completed_tensors,
)
from shopsight.serving.faults import noted

_OPTIMIZATION_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
_ERRORS_ONLY = 3
_AT_WORK = AtWork()

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class TritonPythonModel:
    """One instance of an ONNX model: the interface that Triton's python backend calls."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Fill in tensors and batch size where the configuration leaves inputs or outputs out."""
        config = auto_complete_model_config.as_dict()
        if config["input"] and config["output"]:
            return auto_complete_model_config
        graph = Graph.of_session(_open_session(config))
        max_batch_size = completed_max_batch_size(config, graph)
        auto_complete_model_config.set_max_batch_size(max_batch_size)
        if max_batch_size > 1 and not config.get("sequence_batching"):
            auto_complete_model_config.set_dynamic_batching()
        if not config["input"]:
            for tensor in completed_tensors(graph.inputs, max_batch_size):
                auto_complete_model_config.add_input(tensor)
        if not config["output"]:
            for tensor in completed_tensors(graph.outputs, max_batch_size):
                auto_complete_model_config.add_output(tensor)
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph; raises ConfigRefusedError, which Triton reports as the reason for a failure."""
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] == "GPU":
            raise ConfigRefusedError("KIND_GPU needs Triton's native onnxruntime backend; use KIND_CPU here")
        self._session = _open_session(config)
        self._graph = Graph.of_session(self._session)
        check_config(config, self._graph)
        self._batches = int(config["max_batch_size"]) > 0
        self._output_dims = {t["name"]: [int(dim) for dim in t["dims"]] for t in config["output"]}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that the scheduler batched with one run of the graph.

        If the batched run fails, each request runs alone, so that only the faulty one fails.
        """
        with _AT_WORK.batch():
            return self._answers(requests)

    def _answers(self, requests: list[Any]) -> list[Any]:
        answers: dict[int, Arrays | Exception] = {}
        readable: dict[int, Arrays] = {}
        for index, request in enumerate(requests):
            try:
                readable[index] = _read(request)
            except Exception as error:  # also what the backend raises for tensors that it cannot unpack
                answers[index] = error
        try:
            answers |= self._run_joined(readable) if self._batches else self._run_each(readable)
        except Exception:  # whatever a graph raises: onnxruntime's own types share no base but this
            answers |= self._run_each(readable)
        return [_respond(request, answers[index]) for index, request in enumerate(requests)]

    def _run_joined(self, readable: Mapping[int, Arrays]) -> dict[int, Arrays]:
        if len(readable) < 2:
            return {index: self._run(inputs) for index, inputs in readable.items()}
        names = next(iter(readable.values()))
        joined = self._run({name: np.concatenate([r[name] for r in readable.values()]) for name in names})
        ends = np.cumsum([_num_rows(inputs) for inputs in readable.values()])
        parts = {name: np.split(array, ends[:-1]) for name, array in joined.items()}
        return {
            index: {name: part[position] for name, part in parts.items()}
            for position, index in enumerate(readable)
        }

    def _run_each(self, readable: Mapping[int, Arrays]) -> dict[int, Arrays | Exception]:
        answers: dict[int, Arrays | Exception] = {}
        for index, inputs in readable.items():
            try:
                answers[index] = self._run(inputs)
            except Exception as error:
                answers[index] = error
        return answers

    def _run(self, inputs: Arrays) -> Arrays:
        known = self._graph.inputs | self._graph.overridable
        feed = {name: array if known[name].dims else array.reshape(()) for name, array in inputs.items()}
        arrays = dict(zip(self._output_dims, self._session.run(list(self._output_dims), feed), strict=True))
        for name, array in arrays.items():
            if array.ndim == 0:
                arrays[name] = array.reshape(self._output_dims[name])
            elif self._batches and len(array) != _num_rows(inputs):
                raise ValueError(f"output '{name}' has {len(array)} rows for a batch of {_num_rows(inputs)}")
        return arrays


class _CancelledError(Exception):
    pass


def _open_session(config: Mapping[str, Any]) -> Any:
    # Imported late: Triton first completes the configuration in a separate process, and a complete one needs
    # no graph.
    import onnxruntime

    path = Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")
    if path.is_dir():
        path = path / "model.onnx"
    if not path.is_file():
        raise ConfigRefusedError(f"no {path.name} in version folder {path.parent.name}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = _parameter(config, "intra_op_thread_count")
    options.inter_op_num_threads = _parameter(config, "inter_op_thread_count")
    for pool in ("intra_op", "inter_op"):  # many models share few cores: a waiting thread must not spin
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    execution_mode = _parameter(config, "execution_mode")
    if execution_mode not in (0, 1):
        raise ConfigRefusedError(f"parameter execution_mode is {execution_mode}; it takes 0 or 1")
    if execution_mode == 1:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    if level in _OPTIMIZATION_LEVELS:
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, _OPTIMIZATION_LEVELS[level]
        )
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _parameter(config: Mapping[str, Any], name: str) -> int:
    value = config.get("parameters", {}).get(name, {}).get("string_value", "0")
    try:
        return int(value)
    except ValueError:
        raise ConfigRefusedError(f"parameter {name} is '{value}'; it takes an integer") from None


def _read(request: Any) -> Arrays:
    if request.is_cancelled():
        raise _CancelledError("the client cancelled this request")
    return {tensor.name(): _texts_as(bytes.decode, tensor.as_numpy()) for tensor in request.inputs()}


def _texts_as(convert: Callable[[Any], Any], array: Array) -> Array:
    """Convert each element of a BYTES tensor; Triton holds bytes, onnxruntime str."""
    if array.dtype != np.object_:
        return array
    converted = np.empty(array.size, dtype=np.object_)
    converted[:] = [convert(value) for value in array.ravel()]
    return converted.reshape(array.shape)


def _num_rows(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _respond(request: Any, answer: Arrays | Exception) -> Any:
    if isinstance(answer, Exception):
        return _refusal(answer)
    wanted = request.requested_output_names()
    try:
        tensors = [
            pb_utils.Tensor(name, _texts_as(str.encode, array))
            for name, array in answer.items()
            if name in wanted
        ]
    except UnicodeEncodeError as error:
        return _refusal(error)
    return pb_utils.InferenceResponse(tensors)


def _refusal(error: Exception) -> Any:
    """Return the error for the caller, without onnxruntime's own message, which contains file paths."""
    if isinstance(error, _CancelledError):
        code, message = pb_utils.TritonError.CANCELLED, str(error)
    elif isinstance(error, UnicodeError):
        code, message = pb_utils.TritonError.INVALID_ARG, "a text is not valid UTF-8; send UTF-8"
    else:
        code = pb_utils.TritonError.INVALID_ARG
        reference = noted(f"{type(error).__name__}: {error}", "a run of the graph")
        message = f"the graph cannot be run on these inputs; the server's log says why under {reference}"
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
