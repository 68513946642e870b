"""The trained encoder as an ONNX graph: in float32, or with its tables as int8, and read back here."""

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
    """What the encoder understands, in a fixed order, which is what a graph can return."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, token_id: Tensor, length: Tensor, code_point: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding [B, num_features], logits [B, C] of each task, familiarity [B, 1] if any."""
        embedding, logits, familiarity = self.encoder.understand(token_id, length, code_point)
        near = () if familiarity is None else (familiarity,)
        return embedding, *(logits[task] for task in self.encoder.num_classes), *near


def write_graph(model: LanguageModel, path: Path) -> None:
    """Write the encoder as one ONNX file, which takes INPUTS and tells outputs_of(encoder).

    TOKEN_ID [B, L], LENGTH [B, 1], CODE_POINT [B, C]: B, L and C are free.
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
    """Return the names of what a graph of the encoder tells, in its order."""
    near = ["FAMILIARITY"] if encoder.is_compared else []
    return ["EMBEDDING", *(f"{task.upper()}_LOGIT" for task in encoder.num_classes), *near]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter warns of: packages that we do not need, and its own internals."""
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
    """An exported graph, run by onnxruntime, in the place of the encoder that it was written from."""

    def __init__(self, path: Path, like: Encoder) -> None:
        self.num_features, self.num_classes = like.num_features, dict(like.num_classes)
        self.is_compared = like.is_compared
        self._session = session(path, num_threads())

    def eval(self) -> None:
        """Do nothing: a graph does not learn."""

    def understand(
        self, token_id: Tensor, length: Tensor, code_point: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return unit vectors [B, num_features], the logits [B, classes] of each task, familiarity [B, 1]."""
        values = (value.numpy() for value in (token_id, length, code_point))
        told = self._session.run(None, dict(zip(INPUTS, values, strict=True)))
        embedding, *rest = (torch.from_numpy(value) for value in told)
        near = rest.pop() if self.is_compared else None
        return embedding, dict(zip(self.num_classes, rest, strict=True)), near


def quantise(path: Path) -> None:
    """Replace the graph's tables, nearly all of its bytes, by int8 with a scale each.

    Products stay in float32: integer ones were 1.3 times as fast, but their scale is that of all messages of
    a batch, so that what is said of one would hang on who else asks.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it asks for a step that tables do not need
    try:
        quantize_dynamic(path, path, op_types_to_quantize=["Gather"], weight_type=QuantType.QInt8)
    finally:
        logger.setLevel(level)
