"""The trained encoder as an ONNX graph, in float32 or with int8 tables, and the graph read back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from shopsight.kernels.threads import num_threads
from shopsight.training.artifacts.goldens import session
from shopsight.training.language.checkpoint import INPUTS, LanguageModel, Understanding
from shopsight.training.language.model import Encoder

OPSET = 20


class _Graph(nn.Module):
    """The encoder with its outputs as a tuple in fixed order, as a graph returns them."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, token_id: Tensor, length: Tensor, code_point: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding [B, num_features], logits [B, C] by task, example similarity [B, 1] if any."""
        embedding, logits, example_similarity = self.encoder.understand(token_id, length, code_point)
        near = () if example_similarity is None else (example_similarity,)
        return embedding, *(logits[task] for task in self.encoder.num_classes), *near


def write_graph(model: LanguageModel, path: Path) -> None:
    """Write the encoder as one ONNX file with the inputs INPUTS and the outputs outputs_of(encoder).

    TOKEN_ID int64 [B, L], LENGTH int64 [B, 1], CODE_POINT int32 [B, C]; B, L and C are dynamic.
    """
    example = (
        torch.ones(2, 5, dtype=torch.int64), torch.tensor([[5], [3]]), torch.ones(2, 40, dtype=torch.int32)
    )  # fmt: skip
    batch, tokens, points = (torch.export.Dim(name, min=1) for name in ("batch", "tokens", "points"))
    with _quiet():
        program = torch.onnx.export(
            _Graph(model.encoder).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=outputs_of(model.encoder),
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch}, {0: batch, 1: points}),
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def outputs_of(encoder: Understanding) -> list[str]:
    """Return the output names of the encoder's graph, in order."""
    near = ["EXAMPLE_SIMILARITY"] if encoder.is_compared else []
    return ["EMBEDDING", *(f"{task.upper()}_LOGIT" for task in encoder.num_classes), *near]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings about packages that are not needed and about its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class GraphEncoder:
    """An exported graph, run by onnxruntime, with the interface of the encoder (Understanding)."""

    def __init__(self, path: Path, like: Encoder) -> None:
        self.num_features, self.num_classes = like.num_features, dict(like.num_classes)
        self.is_compared = like.is_compared
        self._session = session(path, num_threads())

    def eval(self) -> None:
        """Do nothing: a graph has no training mode."""

    def understand(
        self, token_id: Tensor, length: Tensor, code_point: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return unit vectors [B, num_features], logits [B, C] by task, example similarity [B, 1] or None."""
        values = (value.numpy() for value in (token_id, length, code_point))
        told = self._session.run(None, dict(zip(INPUTS, values, strict=True)))
        embedding, *rest = (torch.from_numpy(value) for value in told)
        near = rest.pop() if self.is_compared else None
        return embedding, dict(zip(self.num_classes, rest, strict=True)), near


def quantise(path: Path) -> None:
    """Replace the graph's tables, which are nearly all of its bytes, by int8 with one scale per table.

    Matrix products stay in float32. Integer products were 1.3 times as fast, but onnxruntime scales them over
    the whole batch, so that the prediction for one message would depend on the other messages in its batch.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a step that tables do not need
    try:
        quantize_dynamic(path, path, op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8)
    finally:
        logger.setLevel(level)
