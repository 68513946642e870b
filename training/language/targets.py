"""What each training message should be said to be: shares of the classes, from labels and from a teacher."""

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
    """Targets of the training rows of a corpus, and the loss by which logits are brought to them.

    A message has one class of a task, and the loss is cross-entropy; or, in a corpus whose messages may have
    several intents, each intent is there or not, and the loss is the binary cross-entropy of all. With a
    teacher (Hinton et al. 2015) its probabilities take `weight` of a labelled message's targets and the whole
    of another's.
    """

    def __init__(self, corpus: Corpus, rows: Rows, said: Mapping[str, Shares], weight: float) -> None:
        self._corpus, self._rows, self._said, self._weight = corpus, rows, said, weight

    def of(self, task: str, chosen: Rows) -> tuple[Tensor, Tensor]:
        """Return targets float32 [n, classes], and for which of the chosen rows there are any, bool [n]."""
        rows = self._rows[chosen]
        wanted = self._corpus.classes_of(task, rows).astype(np.float32)
        known = wanted.any(1)
        if task in self._said:
            weight = np.where(known, self._weight, 1.0)[:, None]
            wanted = ((1 - weight) * wanted + weight * self._said[task][chosen]).astype(np.float32)
            known = self._corpus.label[task][rows] != OUT_OF_SCOPE
        return torch.from_numpy(wanted), torch.from_numpy(known)

    def loss(self, task: str, logits: Tensor, wanted: Tensor, known: Tensor, smoothing: float) -> Tensor:
        """Return the mean loss of the known rows; 0 where none is known."""
        logits, wanted = logits[known], wanted[known]
        if task == "intent" and self._corpus.several:
            each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        else:
            wanted = wanted * (1 - smoothing) + smoothing / logits.shape[1]
            each = -(wanted * functional.log_softmax(logits, dim=1)).sum()
        return each / known.sum().clamp(min=1)


def taught(teacher: LanguageModel, corpus: Corpus, rows: Rows) -> dict[str, Shares]:
    """Return what the teacher says of the rows, float32 [n, classes] of each task that both know.

    Raises LanguageError when its classes are not those of the corpus.
    """
    if (teacher.several_threshold is not None) != bool(corpus.several):
        raise LanguageError(
            "either the teacher or these messages know several intents of one message, the other does not; "
            "train it on the same labels"
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
