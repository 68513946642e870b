"""The trained model as one safetensors file: weights as tensors, everything else as JSON in its header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import expit
from tokenizers import Tokenizer

from shopsight.serving.routing.scope import Abstention
from shopsight.serving.routing.texts import Texts, read_texts
from shopsight.serving.safetensors_layout import TensorFileError, TensorPlace, read_layout, read_metadata
from shopsight.training.artifacts.trained_state import TrainedState, Training, opened
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.language.batches import in_order
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import Corpus, LanguageError, read_corpus
from shopsight.training.language.model import Encoder, SmallBody
from shopsight.training.language.pretrained import PretrainedBody, rebuilt

FORMAT_VERSION = 6
FAMILY = "language"
MODEL_FILE = "model.safetensors"
INPUTS = ("TOKEN_ID", "LENGTH", "CODE_POINT")
_PREDICT_TOKENS = 4096
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16,
    "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


class Understanding(Protocol):
    """Interface of the trained encoder and of its exported graph (graph.py)."""

    num_features: int
    num_classes: dict[str, int]

    @property
    def is_compared(self) -> bool:
        """Whether messages are compared with known ones."""

    def eval(self) -> Any:
        """Stop learning."""

    def understand(
        self, token_id: torch.Tensor, length: torch.Tensor, code_point: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor | None]:
        """Return unit vectors [B, num_features], logits [B, C] by task, example similarity [B, 1] or None."""


@dataclass(frozen=True)
class Prediction:
    """Predictions for n texts: logits float32 [n, classes] of each head, and the temperature of each head.

    several: the tasks in which a message may have several classes. example_similarity: float32 [n], the
    similarity to the nearest known message (nearest_example.py); None if the model has no known messages.
    """

    classes: dict[str, tuple[str, ...]]
    logits: dict[str, NDArray[np.float32]]
    temperature: dict[str, float]
    several: tuple[str, ...] = ()
    example_similarity: NDArray[np.float32] | None = None

    def labels(self, task: str) -> list[str]:
        """Return the likeliest class of each text; raises KeyError for a task without a head."""
        return [self.classes[task][index] for index in self.logits[task].argmax(1)]

    def probability(self, task: str) -> NDArray[np.float64]:
        """Return calibrated probabilities, float64 [n, classes].

        Rows sum to 1, except for tasks in `several`: there each class has a probability of its own.
        """
        scaled = self.logits[task].astype(np.float64) / self.temperature[task]
        if task in self.several:
            return np.asarray(expit(scaled), dtype=np.float64)
        raised = np.exp(scaled - scaled.max(1, keepdims=True))
        shares: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
        return shares

    def confidence(self, task: str) -> NDArray[np.float64]:
        """Return the calibrated probability of the likeliest class, float64 [n]."""
        best: NDArray[np.float64] = self.probability(task).max(1)
        return best


@dataclass(frozen=True)
class LanguageModel:
    """A trained encoder with its tokeniser, classes, temperatures and abstention rule.

    several_threshold: the probability from which an intent counts as one of several; None if every training
    message has one intent.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    classes: dict[str, tuple[str, ...]]
    temperature: dict[str, float]
    abstention: Abstention | None
    config: LanguageConfig
    several_threshold: float | None = None

    def predict(self, texts: Sequence[str]) -> Prediction:
        """Return the predictions of each head, in the order of the texts."""
        read = read_texts(self.tokenizer, texts, self.config.max_tokens)
        _, logits, example_similarity = understood(self.encoder, read)
        several = () if self.several_threshold is None else ("intent",)
        return Prediction(self.classes, logits, self.temperature, several, example_similarity)

    def in_scope(self, said: Prediction) -> NDArray[np.bool_]:
        """Return which of the texts are in scope, bool [n]; a person should answer the others."""
        assert self.abstention is not None  # there are intents
        return self.abstention.accepts(said.logits["intent"], said.example_similarity)

    def scope_score(self, said: Prediction) -> NDArray[np.float64]:
        """Return the score that is compared with the abstention threshold, float64 [n]."""
        assert self.abstention is not None  # there are intents
        return self.abstention.values(said.logits["intent"], said.example_similarity)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a unit vector for each text, float32 [n, num_features]; similar texts have near vectors."""
        return understood(self.encoder, read_texts(self.tokenizer, texts, self.config.max_tokens))[0]

    def write(self, path: Path) -> None:
        """Write the model to `path`, replacing an earlier one in one step."""
        about = {
            "format_version": FORMAT_VERSION,
            "classes": self.classes,
            "temperature": self.temperature,
            "abstention": self.abstention and self.abstention.as_dict(),
            "config": asdict(self.config),
            "several_threshold": self.several_threshold,
        }
        header = {"about": json.dumps(about), "tokenizer": self.tokenizer.to_str()}
        if isinstance(self.encoder.body, PretrainedBody):
            header["architecture"] = self.encoder.body.architecture()
        save_tensors(path, self.encoder.state_dict(), header)


def corpus_of(workspace: Workspace, model: LanguageModel) -> Corpus:
    """Read the workspace's messages; their labels index the classes of the trained model."""
    return read_corpus(workspace, model.config).numbered_as(model.classes)


def save(run: Training, model: LanguageModel) -> None:
    """Replace the trained language model in one step; its metrics stay empty until `evaluate` runs."""
    with run.saved(FORMAT_VERSION, asdict(model.config), facts={}, metrics={}) as folder:
        model.write(folder / MODEL_FILE)


def load(workspace: Workspace) -> LanguageModel:
    """Read the workspace's trained model; raises NotTrained and StateDamaged with the remedy."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        return load_file(state.folder / MODEL_FILE)


def load_current(workspace: Workspace) -> tuple[TrainedState, LanguageModel]:
    """Read the trained model; raises NotTrained also when the tables changed since the training."""
    with opened(workspace, FAMILY, FORMAT_VERSION) as state:
        state.require_present_tables(workspace)
        return state, load_file(state.folder / MODEL_FILE)


def load_file(path: Path) -> LanguageModel:
    """Load a trained model from its file; raises LanguageError naming the file and the remedy."""
    if not path.is_file():
        raise LanguageError(f"{path}: no such file; name a {MODEL_FILE} that a training has written")
    tensors, header = load_tensors(path)
    about = json.loads(header["about"])
    if about["format_version"] != FORMAT_VERSION:
        raise LanguageError(
            f"{path}: format_version {about['format_version']} is not {FORMAT_VERSION}; train again"
        )
    raw: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
    try:
        config = LanguageConfig(**raw)
    except TypeError as error:
        raise LanguageError(f"{path}: written by another version ({error}); train again") from error
    classes = {task: tuple(names) for task, names in about["classes"].items()}
    tokenizer = Tokenizer.from_str(header["tokenizer"])
    body: torch.nn.Module = SmallBody(config, tokenizer.get_vocab_size())
    if "architecture" in header:
        body = rebuilt(header["architecture"])
    num_known = len(tensors["example_similarity.known"])
    encoder = Encoder(config, body, {t: len(c) for t, c in classes.items()}, num_known)
    encoder.load_state_dict(tensors)
    encoder.eval()
    abstention = Abstention(**about["abstention"]) if about["abstention"] else None
    return LanguageModel(
        encoder,
        tokenizer,
        classes,
        about["temperature"],
        abstention,
        config,
        about["several_threshold"],
    )


def predict_logits(encoder: Understanding, texts: Texts) -> dict[str, NDArray[np.float32]]:
    """Return float32 logits [n, classes] of each head for n texts."""
    return understood(encoder, texts)[1]


def understood(
    encoder: Understanding, texts: Texts
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]], NDArray[np.float32] | None]:
    """Return unit vectors [n, num_features], logits [n, classes] by head, example similarity [n], float32."""
    encoder.eval()
    vectors = np.empty((len(texts), encoder.num_features), dtype=np.float32)
    logits = {t: np.empty((len(texts), n), dtype=np.float32) for t, n in encoder.num_classes.items()}
    example_similarity = np.empty(len(texts), dtype=np.float32) if encoder.is_compared else None
    with torch.inference_mode():
        for chosen in in_order(texts.tokens, _PREDICT_TOKENS):
            embedding, said, near = encoder.understand(*as_tensors(texts.padded(chosen)))
            vectors[chosen] = embedding.numpy()
            for task, values in said.items():
                logits[task][chosen] = values.numpy()
            if example_similarity is not None and near is not None:
                example_similarity[chosen] = near[:, 0].numpy()
    return vectors, logits, example_similarity


def as_tensors(padded: Mapping[str, NDArray[Any]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return padded inputs as tensors, in the encoder's argument order."""
    token_id, length, code_point = (torch.from_numpy(padded[name]) for name in INPUTS)
    return token_id, length, code_point


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a header of strings under a temporary name, then rename into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # One entry: safetensors writes several in no fixed order, and equal models must give equal bytes.
        metadata = {"header": json.dumps(dict(header), sort_keys=True)}
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, staged, metadata=metadata)
        with staged.open("rb") as stream:
            os.fsync(stream.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and header; raises LanguageError if the file is not a safetensors file."""
    try:
        header = json.loads(read_metadata(path)["header"])
        if not isinstance(header, dict):
            raise TypeError("its header is not a JSON object")
        places, content = read_layout(path), bytearray(path.read_bytes())
        tensors = {name: _tensor(place, content) for name, place in places.items()}
    except (TensorFileError, OSError, TypeError, KeyError, json.JSONDecodeError, RecursionError) as error:
        raise LanguageError(f"{path}: not a readable checkpoint ({error}); train again") from error
    return tensors, header


def _tensor(place: TensorPlace, content: bytearray) -> torch.Tensor:
    dtype = _DTYPES[place.dtype]
    if place.begin == place.end:
        return torch.empty(place.shape, dtype=dtype)
    piece = content[place.begin : place.end]  # a copy: the tensor is aligned and owns its memory
    return torch.frombuffer(piece, dtype=dtype).reshape(place.shape)
