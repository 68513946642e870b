"""Training: AdamW, a one-cycle learning rate, early stopping on validation; resumable after every epoch."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopsight.kernels.threads import num_threads
from shopsight.serving.progress import Advance, Progress, counted
from shopsight.serving.routing.texts import Texts, read_texts
from shopsight.training.artifacts.trained_state import training
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.intent_examples import read_taught
from shopsight.training.language.batches import in_order, shuffled
from shopsight.training.language.calibration import settled
from shopsight.training.language.checkpoint import (
    FAMILY,
    FORMAT_VERSION,
    LanguageModel,
    as_tensors,
    load,
    load_file,
    load_tensors,
    predict_logits,
    save,
    save_tensors,
)
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import (
    OUT_OF_SCOPE,
    SEVERAL,
    TASKS,
    UNSPLIT,
    Corpus,
    LanguageError,
    read_corpus,
)
from shopsight.training.language.metrics import r_precision
from shopsight.training.language.model import Body, Encoder, SmallBody
from shopsight.training.language.new_intents import taught_again
from shopsight.training.language.pretrained import PretrainedBody, load_pretrained, merged
from shopsight.training.language.pretraining import pretrain
from shopsight.training.language.targets import Targets, taught
from shopsight.training.language.tokenizer import Splitter, train_tokenizer

Rows = np.ndarray[Any, np.dtype[np.int64]]


def train(workspace: Workspace, config: LanguageConfig, progress: Progress) -> dict[str, Any]:
    """Train one encoder with a head per labelled task on the workspace's messages and save it.

    A killed run resumes after its last finished epoch if data and settings are the same. Returns the
    validation metrics. Raises LanguageError if there is nothing to learn from, Busy if another process trains
    the model.
    """
    with training(workspace, FAMILY) as run:
        corpus = read_corpus(workspace, config)
        for note in corpus.notes:
            progress(note)
        model, figures = fit(corpus, config, progress, run.under_way / "resume.safetensors")
        model = taught_again(model, corpus, read_taught(workspace.taught), progress)
        save(run, model)
        return figures


def fit(
    corpus: Corpus, config: LanguageConfig, progress: Progress, resume: Path | None = None
) -> tuple[LanguageModel, dict[str, Any]]:
    """Return the model of the best epoch on validation, and its metrics; each epoch is saved to `resume`."""
    threads = min(config.num_threads, num_threads())
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    progress(f"torch on CPU, {threads} threads")
    began = time.monotonic()
    seen = np.flatnonzero((corpus.split == 0) | (corpus.split == UNSPLIT))
    body: nn.Module
    if config.encoder:
        body, tokenizer = load_pretrained(config.encoder, config.tuning, config.max_tokens)
    else:
        authors = corpus.author[seen].tolist() if len(corpus.author) else None
        tokenizer = train_tokenizer(corpus.texts_of(seen), config.vocab_size, config.max_tokens, authors)
        body = SmallBody(config, tokenizer.get_vocab_size())
    run = _Run(corpus, config, tokenizer, body)
    if not run.load(resume) and config.pretrain_epochs:
        texts = read_texts(tokenizer, corpus.texts_of(seen), config.max_tokens)
        pretrain(cast(Body, body), tokenizer, texts, config, progress)
    with counted(progress, "training steps", run.epochs * run.steps_per_epoch) as done:
        done(run.epoch * run.steps_per_epoch)
        while run.epoch < run.epochs and run.stale < run.patience:
            loss = run.one_epoch(done)
            scores = ", ".join(f"{task} {score:.4f}" for task, score in run.scores.items())
            progress(f"epoch {run.epoch} of {run.epochs}: loss {loss:.3f}, validation accuracy {scores}")
            run.save(resume)
    return run.finish(time.monotonic() - began)


@dataclass
class _Validation:
    texts: Texts
    truth: NDArray[np.bool_]


class _Run:
    """The state of one training run: encoder, optimiser, best weights so far, epoch."""

    def __init__(self, corpus: Corpus, config: LanguageConfig, tokenizer: Tokenizer, body: nn.Module) -> None:
        self.corpus, self.config, self.tokenizer = corpus, config, tokenizer
        self.tasks = [task for task in TASKS if corpus.classes[task]]
        teacher = _teacher(Path(config.teacher)) if config.teacher else None
        self.train_rows = _train_rows(corpus, unlabelled=teacher is not None)
        said = taught(teacher, corpus, self.train_rows) if teacher else {}
        self.targets = Targets(corpus, self.train_rows, said, config.teacher_weight)
        self.texts = self.read = self._read(self.train_rows)
        self.splitter = (
            None if config.encoder else Splitter(tokenizer, config.token_splits, config.max_tokens)
        )
        self.validation = {t: self._held_out(t) for t in self.tasks}
        counts = {task: len(corpus.classes[task]) for task in self.tasks}
        self.encoder = Encoder(config, body, counts)
        self.encoder.ngrams.weigh(*document_frequency(self.encoder, self.texts))
        self.optimizer = torch.optim.AdamW(
            _groups(self.encoder, config), weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
        )
        self.steps_per_epoch = math.ceil(len(self.train_rows) / config.batch_size)
        self.epochs = max(config.epochs, math.ceil(config.least_steps / self.steps_per_epoch))
        self.patience = math.ceil(config.patience * self.epochs / config.epochs)
        self.epoch, self.stale, self.best_score = 0, 0, -1.0
        self.best: dict[str, Tensor] = {}
        self.scores: dict[str, float] = {}

    def _held_out(self, task: str) -> _Validation:
        rows = self.corpus.rows_of("validation", task)
        if not len(rows):
            raise LanguageError(
                f"no {task} label is left for validation: {len(self.corpus.rows('train', task))} labelled "
                "messages are too few; label at least ten messages of each class"
            )
        return _Validation(self._read(rows), self.corpus.classes_of(task, rows))

    def _read(self, rows: Rows) -> Texts:
        return read_texts(self.tokenizer, self.corpus.texts_of(rows), self.config.max_tokens)

    def one_epoch(self, done: Advance) -> float:
        """Train on every labelled text once, then measure on validation; returns the mean training loss."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.epoch)
        rng = np.random.default_rng([config.seed, self.epoch])
        if self.splitter is not None:
            is_last = self.epoch == self.epochs - 1
            self.read = self.texts if is_last else self.splitter(self.texts, rng)
        lengths = np.array([len(row) for row in self.texts.tokens], dtype=np.int64)
        self.encoder.train()
        total = 0.0
        for number, chosen in enumerate(shuffled(lengths, config.batch_size, rng)):
            self._set_learning_rate(self.epoch * self.steps_per_epoch + number)
            loss = self._loss(chosen)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
            self.optimizer.step()
            total += float(loss.detach()) * len(chosen)
            done(1)
        self.epoch += 1
        self._measure()
        return total / len(self.texts)

    def _loss(self, chosen: Rows) -> Tensor:
        """Return the sum of the cross-entropies of every view and task; each view has its own loss."""
        token_id, length, _ = as_tensors(self.read.padded(chosen))
        whole_id, _, code_point = as_tensors(self.texts.padded(chosen))
        views = self.encoder.by_tokens(token_id, length), self.encoder.ngrams(whole_id, code_point)
        outside = torch.from_numpy(self.corpus.label["intent"][self.train_rows[chosen]] == OUT_OF_SCOPE)
        smoothing = self.config.label_smoothing
        losses = []
        for task in self.tasks:
            wanted, known = self.targets.of(task, chosen)
            losses += [self.targets.loss(task, view[task], wanted, known, smoothing) for view in views]
        if "intent" in self.tasks and bool(outside.any()):
            losses += [self.config.outlier_weight * _nll(view["intent"], outside) for view in views]
        return torch.stack(losses).sum()

    def _set_learning_rate(self, step: int) -> None:
        """Apply the one-cycle schedule: a linear rise over the first 15 % of steps, then a cosine to zero."""
        share = step / (self.epochs * self.steps_per_epoch)
        factor = share / 0.15 if share < 0.15 else 0.5 * (1 + math.cos(math.pi * (share - 0.15) / 0.85))
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * max(factor, 1e-3)

    def _measure(self) -> None:
        for task, held in self.validation.items():
            self.scores[task] = r_precision(held.truth, predict_logits(self.encoder, held.texts)[task])
        score = float(np.mean(list(self.scores.values())))
        self.stale += 1
        if score > self.best_score:
            self.best_score, self.stale = score, 0
            self.best = {name: value.detach().clone() for name, value in self.encoder.state_dict().items()}

    def finish(self, seconds: float) -> tuple[LanguageModel, dict[str, Any]]:
        """Return the best epoch's model, calibrated on validation, and its validation metrics."""
        self.encoder.load_state_dict(self.best)
        if isinstance(self.encoder.body, PretrainedBody):
            self.encoder.body = merged(self.encoder.body)
        self.encoder.eval()
        model = LanguageModel(self.encoder, self.tokenizer, self.corpus.classes, {}, None, self.config)
        model = settled(model, self.corpus)
        figures: dict[str, Any] = {
            "epochs": self.epoch,
            "seconds": round(seconds, 1),
            "training_texts": len(self.train_rows),
            "parameters": sum(p.numel() for p in self.encoder.parameters()),
            "notes": list(self.corpus.notes),
        }
        for task, held in self.validation.items():
            logits = predict_logits(self.encoder, held.texts)[task]
            figures[f"{task}_validation_accuracy"] = r_precision(held.truth, logits)
        if model.abstention is not None:
            figures["abstention"] = model.abstention.as_dict()
        return model, figures

    def _fingerprint(self) -> str:
        content = [FORMAT_VERSION, asdict(self.config), self.corpus.classes, self.tokenizer.to_str()]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        digest.update(self.train_rows.tobytes())
        for task in self.tasks:
            digest.update(self.corpus.label[task].tobytes())
        return digest.hexdigest()

    def save(self, path: Path | None) -> None:
        """Write everything that `load` needs to resume after this epoch."""
        if path is None:
            return
        moments = self.optimizer.state_dict()["state"]
        tensors = {f"moment.{i}.{k}": v for i, state in moments.items() for k, v in state.items()}
        tensors |= {f"encoder.{k}": v for k, v in self.encoder.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        stands = {"epoch": self.epoch, "stale": self.stale, "best_score": self.best_score}
        save_tensors(path, tensors, {"fingerprint": self._fingerprint(), "stands": json.dumps(stands)})

    def load(self, path: Path | None) -> bool:
        """Resume from `path` if it is intact and has the same data and settings; returns whether it did."""
        if path is None or not path.is_file():
            return False
        try:
            tensors, header = load_tensors(path)
        except LanguageError:
            return False
        if header.get("fingerprint") != self._fingerprint():
            return False
        part = _parts(tensors)
        self.encoder.load_state_dict(part["encoder"])
        self.best = part["best"]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part["moment"].items():
            number, key = name.split(".", 1)
            state.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        stands = json.loads(header["stands"])
        self.epoch, self.stale, self.best_score = stands["epoch"], stands["stale"], stands["best_score"]
        return True


def _teacher(path: Path) -> LanguageModel:
    if not path.exists():
        raise LanguageError(
            f"language.teacher: no trained language model at {path}; name the workspace of another training, "
            "or its model.safetensors"
        )
    return load(Workspace(path)) if path.is_dir() else load_file(path)


def _train_rows(corpus: Corpus, *, unlabelled: bool) -> Rows:
    """Return the training rows with a label; with `unlabelled` (for a teacher), those without one too."""
    rows = corpus.rows("train")
    labels = np.stack([corpus.label[task][rows] for task in TASKS if corpus.classes[task]])
    wanted = (labels >= 0) | (labels == SEVERAL) | (labels == OUT_OF_SCOPE)
    free = np.flatnonzero(corpus.split == UNSPLIT) if unlabelled else rows[:0]
    return np.sort(np.concatenate([rows[wanted.any(0)], free]))


def _groups(encoder: Encoder, config: LanguageConfig) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups, pre-trained body and the rest; `top` is the peak rate."""
    own = [p for name, p in encoder.named_parameters() if p.requires_grad and name.startswith("body.")]
    rest = [p for name, p in encoder.named_parameters() if not name.startswith("body.")]
    rate = config.encoder_learning_rate if config.encoder else config.learning_rate
    groups = [{"params": own, "lr": rate, "top": rate}] if own else []
    return [*groups, {"params": rest, "lr": config.learning_rate, "top": config.learning_rate}]


def _nll(logits: Tensor, outside: Tensor) -> Tensor:
    """Return the outlier-exposure loss: cross-entropy to the uniform distribution (Hendrycks et al. 2019)."""
    said = functional.log_softmax(logits, dim=1)[outside]
    return -(said.mean(1) + math.log(logits.shape[1])).sum() / len(logits)


def document_frequency(encoder: Encoder, texts: Texts) -> tuple[Tensor, int]:
    """Return the document frequency of each n-gram slot, int64 [slots], and the number of texts."""
    counts = torch.zeros(encoder.ngrams.num_slots, dtype=torch.int64)
    for chosen in in_order(texts.tokens, 4096):
        token_id, _, code_point = as_tensors(texts.padded(chosen))
        for ids in encoder.ngrams.ids(token_id, code_point):
            counts[ids.unique()] += 1
    return counts, len(texts)


def _parts(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, rest = name.split(".", 1)
        parts.setdefault(head, {})[rest] = value
    return parts
