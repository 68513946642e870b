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
from safetensors.numpy import save_file
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
from serving.routing.answers import ENTRIES_FILE, INDEX_FILE
from serving.routing.scope import Abstention
from serving.routing.tensors import UNDERSTAND
from serving.routing.texts import read_texts
from training.export import model_folder, write_contract
from training.language.answers import Answering, answering, messages_of
from training.language.checkpoint import INPUTS, LanguageModel, as_tensors, checkpoint_path, load
from training.language.config import LanguageConfig
from training.language.corpus import LanguageError
from training.language.model import Encoder
from training.workspace import Workspace

OPSET = 20
MAX_BATCH_SIZE = 256
_GOLDEN_QUESTIONS = 6  # of the shop's own answers
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
    """The encoder's embedding and its heads' logits in a fixed order, which is what a graph can return."""

    def __init__(self, encoder: Encoder, tasks: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.tasks = encoder, tasks

    def forward(self, token_id: Tensor, length: Tensor, code_point: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding, float32 [B, 3 D], and the logits of each task, float32 [B, C]."""
        features = self.encoder.features(token_id, length)
        by_encoder, by_ngrams = self.encoder.said_of(features), self.encoder.ngrams(token_id, code_point)
        embedding = self.encoder.embedding(features)
        return embedding, *(by_encoder[task] + by_ngrams[task] for task in self.tasks)


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
    """Write the encoder as one ONNX file: TOKEN_ID [B, L], LENGTH [B, 1], CODE_POINT [B, C] → logits.

    B, L and C are free.
    """
    tasks = tuple(model.encoder.heads)
    example = (
        torch.ones(2, 5, dtype=torch.int64), torch.tensor([[5], [3]]), torch.ones(2, 40, dtype=torch.int32)
    )  # fmt: skip
    batch, tokens, points = (torch.export.Dim(name, min=1) for name in ("batch", "tokens", "points"))
    with _quiet():
        program = torch.onnx.export(
            _Graph(model.encoder, tasks).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["EMBEDDING", *(f"{task.upper()}_LOGIT" for task in tasks)],
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch}, {0: batch, 1: points}),
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
            inputs=[
                TensorSpec("TOKEN_ID", "INT64", (-1,)),
                TensorSpec("LENGTH", "INT64", (1,)),
                TensorSpec("CODE_POINT", "INT32", (-1,)),
            ],
            outputs=[
                TensorSpec("EMBEDDING", "FP32", (model.encoder.num_features,)),
                *(TensorSpec(f"{t.upper()}_LOGIT", "FP32", (len(n),)) for t, n in heads.items()),
            ],
            max_batch_size=MAX_BATCH_SIZE,
            files=["model.onnx"],
            config=asdict(model.config),
        )
    return workspace.models / "intent_encoder"


def _export_understand(
    workspace: Workspace, model: LanguageModel, metrics: Mapping[str, Any], max_text_bytes: int
) -> Path:
    assert model.abstention is not None  # there are intents
    answers = answering(workspace, model)
    left_out = set() if model.classes["sentiment"] else {"SENTIMENT"}
    left_out |= set() if answers else {"ANSWER", "ANSWER_SOURCE"}
    outputs = [spec for spec in UNDERSTAND.outputs if spec.name not in left_out]
    files = ["tokenizer.json", *((ENTRIES_FILE, INDEX_FILE) if answers else ())]
    with model_folder(workspace, "understand") as folder:
        model.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        if answers:
            write_json(folder / ENTRIES_FILE, {"entries": [asdict(e) for e in answers.index.entries]})
            save_file(answers.index.arrays, folder / INDEX_FILE)
        write_json(folder / METRICS_FILE, dict(metrics))
        write_goldens(folder, understand_goldens(model, answers))
        write_contract(
            folder,
            workspace=workspace,
            name="understand",
            kind="router",
            inputs=UNDERSTAND.inputs,
            outputs=outputs,
            max_batch_size=UNDERSTAND.max_batch_size,
            files=files,
            calls=UNDERSTAND.calls,
            preprocessing={
                "intents": list(model.classes["intent"]),
                "sentiments": list(model.classes["sentiment"]),
                "inputs": list(INPUTS),
                "temperature": model.temperature["intent"],
                "abstention": model.abstention.as_dict(),
                "answers": answers.rule.as_dict() if answers else None,
                "max_tokens": model.config.max_tokens,
                "buckets": list(model.config.buckets),
                "max_text_bytes": max_text_bytes,
                "normalisation": "in tokenizer.json",
            },
            config=asdict(model.config),
        )
    return workspace.models / "understand"


def understand_goldens(model: LanguageModel, answers: Answering | None) -> list[Golden]:
    """Return each fixed text with what the trained model says of it and the answer that it is given.

    A text whose two likeliest classes or answers are too close to call, or that lies at a threshold, is left
    out: rounding on another processor could turn its answer.
    """
    assert model.abstention is not None
    texts = list(GOLDEN_TEXTS)
    if answers:
        texts += [entry.question for entry in answers.index.entries if entry.question][:_GOLDEN_QUESTIONS]
    predicted = model.predict(texts)
    confidence = predicted.confidence("intent")
    heads = [task for task, names in model.classes.items() if names]
    goldens = []
    for i, text in enumerate(texts):
        if any(_margin(predicted.logits[task][i]) < 10 * LOGIT_TOLERANCE for task in heads):
            continue
        if _at_threshold(model.abstention, predicted.logits["intent"][i]):
            continue
        answer = [
            _bytes("INTENT", predicted.labels("intent")[i]),
            GoldenTensor("CONFIDENCE", "FP32", (1, 1), [[float(confidence[i])]]),
        ]
        if "sentiment" in heads:
            answer.append(_bytes("SENTIMENT", predicted.labels("sentiment")[i]))
        outside = not bool(model.abstention.accepts(predicted.logits["intent"][i : i + 1])[0])
        answer.append(GoldenTensor("IS_OUT_OF_SCOPE", "BOOL", (1, 1), [[outside]]))
        if answers:
            (message,) = messages_of(model, [text])
            if answers.margin(message) < 10 * LOGIT_TOLERANCE:
                continue
            found = answers.best(message)
            answer.append(_bytes("ANSWER", found.answer if found else ""))
            answer.append(_bytes("ANSWER_SOURCE", found.source if found else ""))
        goldens.append(Golden((_bytes("TEXT", text),), tuple(answer)))
    return goldens


def _at_threshold(rule: Abstention, logits: np.ndarray[Any, np.dtype[np.float32]]) -> bool:
    """Whether a little more or less on the likeliest intent would turn what is in scope."""
    step = np.zeros_like(logits)
    step[logits.argmax()] = 10 * LOGIT_TOLERANCE
    return len(set(rule.accepts(np.stack([logits - step, logits, logits + step])).tolist())) > 1


def _encoder_golden(model: LanguageModel, text: str) -> Golden:
    texts = read_texts(model.tokenizer, [text], model.config.max_tokens)
    ((width, _),) = texts.by_length(model.config.buckets).items()
    padded = texts.padded([0], width)
    with torch.inference_mode():
        said = model.encoder(*as_tensors(padded))
    return Golden(
        request=tuple(
            GoldenTensor(name, "INT32" if name == "CODE_POINT" else "INT64", value.shape, value.tolist())
            for name, value in padded.items()
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
