"""Training targets of the messages: shares of the classes, from labels and from a teacher model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shopsight.training.language.checkpoint import LanguageModel
from shopsight.training.language.corpus import OUT_OF_SCOPE, Corpus, LanguageError

Rows = NDArray[np.int64]
Shares = NDArray[np.float32]


class Targets:
    """Targets of the training rows of a corpus, and the loss of logits against them.

    If each message has one class of a task, the loss is cross-entropy. If messages may have several intents,
    it is the binary cross-entropy over all intents. With a teacher (distillation, Hinton et al. 2015), the
    targets of a labelled message are `weight` times the teacher's probabilities plus the rest from the label;
    those of an unlabelled message are the teacher's probabilities.
    """

    def __init__(self, corpus: Corpus, rows: Rows, said: Mapping[str, Shares], weight: float) -> None:
        self._corpus, self._rows, self._said, self._weight = corpus, rows, said, weight

    def of(self, task: str, chosen: Rows) -> tuple[Tensor, Tensor]:
        """Return targets float32 [n, classes], and which of the chosen rows have targets, bool [n]."""
        rows = self._rows[chosen]
        wanted = self._corpus.classes_of(task, rows).astype(np.float32)
        known = wanted.any(1)
        if task in self._said:
            weight = np.where(known, self._weight, 1.0)[:, None]
            wanted = ((1 - weight) * wanted + weight * self._said[task][chosen]).astype(np.float32)
            known = self._corpus.label[task][rows] != OUT_OF_SCOPE
        return torch.from_numpy(wanted), torch.from_numpy(known)

    def loss(self, task: str, logits: Tensor, wanted: Tensor, known: Tensor, smoothing: float) -> Tensor:
        """Return the mean loss of the known rows, in nats; 0 if none is known.

        logits, wanted: float32 [n, classes]; known: bool [n].
        """
        logits, wanted = logits[known], wanted[known]
        if task == "intent" and self._corpus.several:
            each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        else:
            wanted = wanted * (1 - smoothing) + smoothing / logits.shape[1]
            each = -(wanted * functional.log_softmax(logits, dim=1)).sum()
        return each / known.sum().clamp(min=1)


def taught(teacher: LanguageModel, corpus: Corpus, rows: Rows) -> dict[str, Shares]:
    """Return the teacher's probabilities for the rows, float32 [n, classes], of each task that both have.

    Raises LanguageError if its classes are not those of the corpus.
    """
    if (teacher.several_threshold is not None) != bool(corpus.several):
        raise LanguageError(
            "only one of the teacher and these messages allows several intents per message; "
            "train the teacher on the same labels"
        )
    said = teacher.predict(corpus.texts_of(rows))
    found = {}
    for task, names in corpus.classes.items():
        if not names or not teacher.classes.get(task):
            continue
        if teacher.classes[task] != names:
            odd = min(set(names) ^ set(teacher.classes[task]))
            raise LanguageError(
                f"the teacher was trained on other {task}s than these messages have ('{odd}'); train it on "
                "the same labels"
            )
        found[task] = said.probability(task).astype(np.float32)
    return found
