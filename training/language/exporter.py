"""From the trained model to the folders that serve it: the encoder's graph, the text router's data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from serving.contract import (
    METRICS_FILE,
    Golden,
    GoldenTensor,
    TensorSpec,
    read_json,
    write_goldens,
    write_json,
)
from serving.routing.tensors import UNDERSTAND
from training.export import model_folder, write_contract
from training.language.checkpoint import LanguageModel, checkpoint_path, load
from training.language.config import LanguageConfig
from training.language.corpus import LanguageError
from training.language.model import Encoder
from training.language.tokenizer import encode, pad
from training.workspace import Workspace

OPSET = 20
MAX_BATCH_SIZE = 256
LOGIT_TOLERANCE = 1e-4  # logits reach 10, and processors round differently

# Written for this purpose; no customer said any of them.
GOLDEN_TEXTS = (
    "Where is my order? It was due last Monday.",
    "I'd like to send these shoes back, they are too small 😞",
    "thank you, the blue jacket is lovely!!",
    "how do i chnage my delivery adress",
    "我的快递什么时候到？",
    "质量很好，非常满意，下次还会再来！",
    "怎么申请退款",
    "WHAT IS YOUR REFUND POLICY",
    "ok",
    "?",
)


class _Graph(nn.Module):
    """The encoder with its heads' logits in a fixed order, which is what a graph can return."""

    def __init__(self, encoder: Encoder, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.tasks = encoder, tasks

    def forward(self, token_id: Tensor, length: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of each task, float32 [B, C]."""
        said = self.encoder(token_id, length)
        return tuple(said[task] for task in self.tasks)


def export(workspace: Workspace, config: LanguageConfig) -> list[Path]:
    """Write models/intent_encoder and models/understand from the trained model; returns both folders.

    Raises LanguageError when nothing is trained, or when there is no intent head to serve.
    """
    model = load(workspace)
    if not model.classes.get("intent"):
        raise LanguageError(
            f"{checkpoint_path(workspace)}: trained without intents, which `understand` answers with; "
            "ingest messages with intent labels and train again"
        )
    metrics_path = checkpoint_path(workspace).with_name("metrics.json")
    metrics = read_json(metrics_path) if metrics_path.is_file() else {}
    folders = [
        _export_encoder(workspace, model, metrics),
        _export_understand(workspace, model, metrics, config.max_text_bytes),
    ]
    return folders


def write_graph(model: LanguageModel, path: Path) -> None:
    """Write the encoder as one ONNX file: TOKEN_ID [B, L], LENGTH [B, 1] → logits, B and L free."""
    tasks = tuple(model.encoder.heads)
    example = (torch.ones(2, 5, dtype=torch.int64), torch.tensor([[5], [3]]))
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1)
    with _quiet():
        program = torch.onnx.export(
            _Graph(model.encoder, tasks).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=["TOKEN_ID", "LENGTH"],
            output_names=[f"{task.upper()}_LOGIT" for task in tasks],
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch}),
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


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


def _export_encoder(workspace: Workspace, model: LanguageModel, metrics: Mapping[str, Any]) -> Path:
    heads = {task: names for task, names in model.classes.items() if names}
    with model_folder(workspace, "intent_encoder") as folder:
        write_graph(model, folder / "model.onnx")
        write_json(folder / METRICS_FILE, dict(metrics))
        write_goldens(folder, [_encoder_golden(model, text) for text in GOLDEN_TEXTS])
        write_contract(
            folder,
            workspace=workspace,
            name="intent_encoder",
            kind="onnx",
            inputs=[TensorSpec("TOKEN_ID", "INT64", (-1,)), TensorSpec("LENGTH", "INT64", (1,))],
            outputs=[TensorSpec(f"{t.upper()}_LOGIT", "FP32", (len(n),)) for t, n in heads.items()],
            max_batch_size=MAX_BATCH_SIZE,
            files=["model.onnx"],
            config=asdict(model.config),
        )
    return workspace.models / "intent_encoder"


def _export_understand(
    workspace: Workspace, model: LanguageModel, metrics: Mapping[str, Any], max_text_bytes: int
) -> Path:
    outputs = [s for s in UNDERSTAND.outputs if s.name != "SENTIMENT" or model.classes["sentiment"]]
    with model_folder(workspace, "understand") as folder:
        model.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        write_json(folder / METRICS_FILE, dict(metrics))
        write_goldens(folder, understand_goldens(model))
        write_contract(
            folder,
            workspace=workspace,
            name="understand",
            kind="router",
            inputs=UNDERSTAND.inputs,
            outputs=outputs,
            max_batch_size=UNDERSTAND.max_batch_size,
            files=["tokenizer.json"],
            calls=UNDERSTAND.calls,
            preprocessing={
                "intents": list(model.classes["intent"]),
                "sentiments": list(model.classes["sentiment"]),
                "temperature": model.temperature["intent"],
                "max_tokens": model.config.max_tokens,
                "buckets": list(model.config.buckets),
                "max_text_bytes": max_text_bytes,
                "normalisation": "in tokenizer.json",
            },
            config=asdict(model.config),
        )
    return workspace.models / "understand"


def understand_goldens(model: LanguageModel) -> list[Golden]:
    """Return each fixed text with the intent, confidence and sentiment that the trained model gives.

    A text whose two likeliest classes are too close to call is left out: rounding on another processor
    could turn its answer.
    """
    predicted = model.predict(GOLDEN_TEXTS)
    confidence = predicted.confidence("intent")
    heads = [task for task, names in model.classes.items() if names]
    goldens = []
    for i, text in enumerate(GOLDEN_TEXTS):
        if any(_margin(predicted.logits[task][i]) < 10 * LOGIT_TOLERANCE for task in heads):
            continue
        answer = [
            _bytes("INTENT", predicted.labels("intent")[i]),
            GoldenTensor("CONFIDENCE", "FP32", (1, 1), [[float(confidence[i])]]),
        ]
        if "sentiment" in heads:
            answer.append(_bytes("SENTIMENT", predicted.labels("sentiment")[i]))
        goldens.append(Golden((_bytes("TEXT", text),), tuple(answer)))
    return goldens


def _encoder_golden(model: LanguageModel, text: str) -> Golden:
    rows = encode(model.tokenizer, [text])
    width = next(bucket for bucket in model.config.buckets if bucket >= len(rows[0]))
    token_id, length = pad(rows, width)
    with torch.inference_mode():
        said = model.encoder(torch.from_numpy(token_id), torch.from_numpy(length))
    return Golden(
        request=(
            GoldenTensor("TOKEN_ID", "INT64", (1, width), token_id.tolist()),
            GoldenTensor("LENGTH", "INT64", (1, 1), length.tolist()),
        ),
        answer=tuple(
            GoldenTensor(f"{task.upper()}_LOGIT", "FP32", tuple(logits.shape), logits.tolist())
            for task, logits in said.items()
        ),
        tolerance=LOGIT_TOLERANCE,
    )


def _bytes(name: str, text: str) -> GoldenTensor:
    return GoldenTensor(name, "BYTES", (1, 1), [[text]])


def _margin(logits: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    top = np.sort(logits)[-2:]
    return float(top[1] - top[0])
