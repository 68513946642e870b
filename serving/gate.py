"""The checks that a release must pass before it is served: contracts, graphs, configs, goldens, metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopsight.serving.contract import (
    METRICS_FILE,
    ContractError,
    ModelContract,
    TensorSpec,
    read_goldens,
    read_json,
)
from shopsight.serving.golden import to_array
from shopsight.serving.graph import Graph, read_graph
from shopsight.serving.release import Release, staged_folder
from shopsight.serving.routing.tensors import ROUTERS
from shopsight.serving.triton_config import CONFIG_FILE, read_config

OPSETS = range(18, 22)
MODEL_FILE = "model.onnx"
# inference.DataType of Triton's model_config.proto
_TRITON_TYPES = {"BOOL": 1, "INT32": 8, "INT64": 9, "FP32": 11, "BYTES": 13}


class GateError(ValueError):
    """A release failed the checks; the message lists every reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("the release was refused: " + "; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Threshold:
    """A metric in one model's metrics.json that must reach `minimum`.

    Of a metric with a confidence interval, the lower bound must reach it.
    """

    model: str
    metric: str
    minimum: float

    @staticmethod
    def parse(text: str) -> Threshold:
        """Parse `model.metric=minimum`; raises ThresholdError that shows the form."""
        name, equals, minimum = text.partition("=")
        model, dot, metric = name.partition(".")
        try:
            if not (equals and dot and model and metric):
                raise ValueError
            return Threshold(model, metric, float(minimum))
        except ValueError:
            raise ThresholdError(
                f"'{text}' is no threshold; write model.metric=minimum, as in recommend.recall_at_10=0.05"
            ) from None


class ThresholdError(ValueError):
    """A threshold has the wrong form."""


@dataclass(frozen=True)
class Gate:
    """The checks of a release: the fixed ones, and the shop's thresholds."""

    thresholds: tuple[Threshold, ...] = ()

    def check(self, repository: Path, release: Release) -> None:
        """Check the staged models of a release; raises GateError with all problems."""
        contracts: dict[str, ModelContract] = {}
        problems: list[str] = []
        for name in release.models:
            folder = staged_folder(repository, name)
            try:
                contracts[name] = ModelContract.read(folder)
                problems += _problems(folder, name, contracts[name], release)
            except ContractError as error:
                problems.append(f"{name}: {_relative(str(error), folder)}")
        for name, contract in contracts.items():
            lacking = [called for called in contract.calls if called not in release.models]
            problems += [f"{name} calls {called}, which is not in the release" for called in lacking]
        problems += [p for threshold in self.thresholds for p in _below(threshold, repository)]
        if problems:
            raise GateError(problems)


def _problems(folder: Path, name: str, contract: ModelContract, release: Release) -> Iterator[str]:
    if contract.name != name:
        yield f"{name}: its contract is that of '{contract.name}'"
    staged = {entry.path: entry.sha256 for entry in release.models[name].files}
    for entry in contract.files:
        if staged.get(entry.path) != entry.sha256:
            yield f"{name}: {entry.path} differs from its contract; export {name} again"
    yield from _config_problems(folder, contract)
    # Imported late: a server that only loads what is published needs no onnxruntime beside Triton's own.
    from shopsight.serving.readers import open_graph, open_router

    if contract.kind == "router":
        problems = list(_router_problems(contract)) or open_router(folder, name)
    else:
        problems = list(_graph_problems(folder, contract)) or open_graph(folder / MODEL_FILE, name)
    yield from problems
    yield from _golden_problems(folder, contract)
    if (folder / METRICS_FILE).is_file():
        for metric, value in figures(read_json(folder / METRICS_FILE)).items():
            if not math.isfinite(value):
                yield f"{name}: {METRICS_FILE} has {metric} = {value}; train {name} again"


def _config_problems(folder: Path, contract: ModelContract) -> Iterator[str]:
    config = read_config(folder / CONFIG_FILE)
    if config.max_batch_size != contract.max_batch_size:
        yield (
            f"{contract.name}: {CONFIG_FILE} has max_batch_size {config.max_batch_size}, "
            f"the contract {contract.max_batch_size}"
        )
    for kind, tensors, specs in (
        ("input", config.input, contract.inputs),
        ("output", config.output, contract.outputs),
    ):
        configured = {t.name: (int(t.data_type), tuple(t.dims)) for t in tensors}
        for spec in specs:
            wanted = (_TRITON_TYPES[spec.datatype], spec.dims)
            if configured.get(spec.name) != wanted:
                yield f"{contract.name}: {kind} {spec.name} of {CONFIG_FILE} is not that of the contract"


def _router_problems(contract: ModelContract) -> Iterator[str]:
    expected = ROUTERS.get(contract.name)
    if expected is None:
        yield f"{contract.name}: no router of this name; there are {', '.join(ROUTERS)}"
        return
    if contract.max_batch_size != expected.max_batch_size:
        yield (
            f"{contract.name}: max_batch_size is {contract.max_batch_size}, "
            f"the router takes {expected.max_batch_size}"
        )
    if _shapes(contract.inputs) != _shapes(expected.inputs):
        yield f"{contract.name}: the contract's inputs are not those of the router"
    given, known = _shapes(contract.outputs), _shapes(expected.outputs)
    required = {spec.name for spec in expected.outputs if not spec.optional}
    if any(known.get(name) != shape for name, shape in given.items()) or not required <= given.keys():
        yield f"{contract.name}: the contract's outputs are not those of the router"
    for called in contract.calls:
        if called not in expected.calls:
            yield f"{contract.name}: the router does not call {called}"


def _graph_problems(folder: Path, contract: ModelContract) -> Iterator[str]:
    graph: Graph = read_graph(folder / MODEL_FILE)
    if graph.opset not in OPSETS:
        yield f"{contract.name}: opset is {graph.opset}, served are {OPSETS.start} to {OPSETS.stop - 1}"
    for kind, tensors, specs in (
        ("input", graph.inputs, contract.inputs),
        ("output", graph.outputs, contract.outputs),
    ):
        promised = {s.name: (s.datatype, _batched(s, contract)) for s in specs}
        for name in sorted(tensors.keys() ^ promised.keys()):
            where = "the graph" if name in tensors else "the contract"
            yield f"{contract.name}: {kind} {name} is in {where} alone"
        for name in sorted(tensors.keys() & promised.keys()):
            if tensors[name] != promised[name]:
                yield (
                    f"{contract.name}: {kind} {name} is {tensors[name]} in the graph, "
                    f"{promised[name]} in the contract"
                )
    for path in graph.external_files:
        if path not in {entry.path for entry in contract.files}:
            yield f"{contract.name}: the graph's weights lie in {path}, which the contract does not name"


def _golden_problems(folder: Path, contract: ModelContract) -> Iterator[str]:
    """Yield the problems that prevent the goldens from being replayed."""
    goldens = read_goldens(folder)
    if not goldens:
        yield f"{contract.name}: no golden request to replay; export {contract.name} again"
    inputs = {spec.name: spec for spec in contract.inputs}
    outputs = {spec.name: spec for spec in contract.outputs}
    required = {name for name, spec in inputs.items() if not spec.optional}
    for position, golden in enumerate(goldens):
        where = f"{contract.name}: golden {position}"
        for tensor, specs in [(t, inputs) for t in golden.request] + [(t, outputs) for t in golden.answer]:
            spec = specs.get(tensor.name)
            if spec is None or tensor.datatype != spec.datatype:
                yield f"{where}: {tensor.name} {tensor.datatype} is not in the contract"
                continue
            try:
                to_array(tensor)
            except ContractError as error:
                yield f"{where}: {error}; export {contract.name} again"
            if not _fits(tensor.shape, spec, contract):
                yield f"{where}: {tensor.name} has shape {list(tensor.shape)}, the contract {list(spec.dims)}"
        if lacking := required - {tensor.name for tensor in golden.request}:
            yield f"{where}: lacks {', '.join(sorted(lacking))}"
        if not golden.answer:
            yield f"{where}: has no answer to compare with"
        if not (golden.tolerance >= 0 and math.isfinite(golden.tolerance)):
            yield f"{where}: its tolerance is {golden.tolerance}, expected a number from 0"


def _fits(shape: Sequence[int], spec: TensorSpec, contract: ModelContract) -> bool:
    """Whether a golden tensor, with its batch dimension, is one of the contract's."""
    dims = _batched(spec, contract)
    return len(shape) == len(dims) and all(dim in (-1, size) for dim, size in zip(dims, shape, strict=True))


def _below(threshold: Threshold, repository: Path) -> Iterator[str]:
    path = staged_folder(repository, threshold.model) / METRICS_FILE
    found = figures(read_json(path)) if path.is_file() else {}
    name = f"{threshold.model}.{threshold.metric}"
    value = found.get(f"{threshold.metric}.low", found.get(threshold.metric))
    if value is None:
        yield f"{name} is required, but {threshold.model} has no such figure"
    elif not value >= threshold.minimum:
        yield f"{name} is {value:.4g}, required is {threshold.minimum:.4g}"


def figures(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a metrics.json by dotted name; `x.value` is also returned as `x`."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found |= figures(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
            if name == "value" and prefix:
                found[prefix[:-1]] = float(value)
    return found


def _shapes(specs: Sequence[TensorSpec]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {spec.name: (spec.datatype, spec.dims) for spec in specs}


def _batched(spec: TensorSpec, contract: ModelContract) -> tuple[int, ...]:
    return (-1, *spec.dims) if contract.max_batch_size else spec.dims


def _relative(message: str, folder: Path) -> str:
    return message.replace(f"{folder}/", "")
