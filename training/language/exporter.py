"""Exports the trained model for serving: the encoder's ONNX graph and the data of the `understand` router."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from safetensors.numpy import save_file

from shopsight.serving.contract import METRICS_FILE, Bounds, TensorSpec, write_goldens, write_json
from shopsight.serving.routing.answers import ENTRIES_FILE, INDEX_FILE
from shopsight.serving.routing.tensors import UNDERSTAND
from shopsight.training.artifacts.model_folders import model_folder, write_contract
from shopsight.training.artifacts.snapshots import on_one_snapshot
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.answers import answering
from shopsight.training.language.calibration import calibrated
from shopsight.training.language.checkpoint import INPUTS, LanguageModel, corpus_of, load_current
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import Corpus, LanguageError
from shopsight.training.language.goldens import GOLDEN_TEXTS, encoder_golden, understand_goldens
from shopsight.training.language.graph import GraphEncoder, quantise, write_graph
from shopsight.training.language.metrics import accuracy
from shopsight.training.language.model import Encoder

MAX_BATCH_SIZE = 256


@on_one_snapshot
def export(workspace: Workspace, config: LanguageConfig) -> list[Path]:
    """Write models/intent_encoder and models/understand from the trained model; returns both folders.

    Raises NotTrained if nothing is trained or the tables changed since, LanguageError if the model has no
    intent head.
    """
    state, model = load_current(workspace)
    if not model.classes.get("intent"):
        raise LanguageError(
            f"{workspace.root}: the language model was trained without intents, which `understand` answers "
            "with; ingest messages with intent labels and train again"
        )
    metrics = dict(state.metrics)
    with tempfile.TemporaryDirectory(prefix="shopsight-graph-") as scratch:
        graph = Path(scratch) / "model.onnx"
        write_graph(model, graph)
        if config.precision == "int8":
            corpus = corpus_of(workspace, model)
            model, metrics["int8"] = quantised(model, corpus, graph)
        return [
            _export_encoder(workspace, state.data_sha256, model, metrics, graph),
            _export_understand(workspace, state.data_sha256, model, metrics, config.max_text_bytes),
        ]


def quantised(model: LanguageModel, corpus: Corpus, graph: Path) -> tuple[LanguageModel, dict[str, Any]]:
    """Quantise an exported graph to int8 in place; returns the model to serve and a comparison of both.

    Temperatures and thresholds are chosen again for the quantised graph. The comparison: accuracy of each
    task before and after on the test split (validation if there is none), the share of messages with the
    same prediction, and the sizes in bytes.
    """
    whole = graph.stat().st_size
    quantise(graph)
    served = replace(model, encoder=cast(Encoder, GraphEncoder(graph, model.encoder)))
    served = calibrated(served, corpus)
    told: dict[str, Any] = {"bytes_float32": whole, "bytes_int8": graph.stat().st_size}
    for task in model.encoder.num_classes:
        split = "test" if len(corpus.rows("test", task)) else "validation"
        rows = corpus.rows(split, task)
        before, after = (one.predict(corpus.texts_of(rows)).logits[task].argmax(1) for one in (model, served))
        label = corpus.label[task][rows]
        told[task] = {
            "split": split,
            "accuracy_float32": accuracy(label, before)["value"],
            "accuracy_int8": accuracy(label, after)["value"],
            "told_the_same": float((before == after).mean()),
        }
    return served, told


def _export_encoder(
    workspace: Workspace, data_sha256: str, model: LanguageModel, metrics: Mapping[str, Any], graph: Path
) -> Path:
    heads = {task: names for task, names in model.classes.items() if names}
    with model_folder(workspace, "intent_encoder") as folder:
        shutil.copyfile(graph, folder / "model.onnx")
        write_json(folder / METRICS_FILE, dict(metrics))
        write_goldens(folder, [encoder_golden(model, text) for text in GOLDEN_TEXTS])
        write_contract(
            folder,
            data_sha256=data_sha256,
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
                *((TensorSpec("EXAMPLE_SIMILARITY", "FP32", (1,)),) if model.encoder.is_compared else ()),
            ],
            max_batch_size=MAX_BATCH_SIZE,
            files=["model.onnx"],
            config=asdict(model.config),
        )
    return workspace.models / "intent_encoder"


def _export_understand(
    workspace: Workspace,
    data_sha256: str,
    model: LanguageModel,
    metrics: Mapping[str, Any],
    max_text_bytes: int,
) -> Path:
    assert model.abstention is not None  # there are intents
    answers = answering(workspace, model)
    left_out = set() if model.classes["sentiment"] else {"SENTIMENT"}
    left_out |= set() if answers else {"ANSWER", "ANSWER_SOURCE"}
    left_out |= {"INTENTS"} if model.several_threshold is None else set()
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
            data_sha256=data_sha256,
            name="understand",
            kind="router",
            inputs=[replace(spec, bounds=Bounds(max_bytes=max_text_bytes)) for spec in UNDERSTAND.inputs],
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
                "several_threshold": model.several_threshold,
                "max_tokens": model.config.max_tokens,
                "buckets": list(model.config.buckets),
                "max_text_bytes": max_text_bytes,
                "normalisation": "in tokenizer.json",
            },
            config=asdict(model.config),
        )
    return workspace.models / "understand"
