"""The linear view of a message: hashed n-grams of characters and of tokens with TF-IDF weights.

The model computes the hashes from code points, so that the graph takes plain numbers and serving has no
hashing code. Legend of shapes: B messages, C code points, L tokens, N n-grams.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_PRIME = 2**31 - 1  # products of two numbers below it stay within int64, in torch as in ONNX
_STEP, _SCATTER = 1_000_003, 1_103_515_245
_SCALE = 8.0  # of unit vectors: logits that a small step of the optimiser can move


class NgramView(nn.Module):
    """A linear model on the TF-IDF n-grams of a message, with feature hashing (Weinberger et al. 2009).

    It has a loss of its own: under a common loss it would learn faster than the encoder, and the encoder
    would learn less.
    """

    def __init__(self, num_slots: int, longest: int, dropout: float, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        self.num_slots, self.longest, self.dropout = num_slots, longest, dropout
        self.num_classes = {task: n for task, n in num_classes.items() if n}
        total = sum(self.num_classes.values())
        self.table = nn.Embedding(num_slots, total)
        nn.init.zeros_(self.table.weight)
        self.bias = nn.Parameter(torch.zeros(total))
        self.rarity: Tensor
        self.register_buffer("rarity", torch.zeros(num_slots))

    def forward(self, token_id: Tensor, code_point: Tensor) -> dict[str, Tensor]:
        """Return logits [B, classes] per task for token_id int64 [B, L] and code_point int32 [B, C]."""
        return self.said_of(self.ids(token_id, code_point))

    def said_of(self, ngram_BN: Tensor) -> dict[str, Tensor]:
        """Return the logits [B, classes] per task for the slots that `ids` gives, int64 [B, N]."""
        weight_BN = self.rarity[ngram_BN]
        if self.training:
            weight_BN = weight_BN * (torch.rand(weight_BN.shape) >= self.dropout)
        weight_BN = weight_BN / (weight_BN.square().sum(1, keepdim=True).sqrt() + 1e-6)
        if self.training:
            summed = functional.embedding_bag(
                ngram_BN, self.table.weight, per_sample_weights=weight_BN, mode="sum"
            )
        else:
            summed = (weight_BN.unsqueeze(1) @ self.table(ngram_BN)).squeeze(1)
        logits = summed * _SCALE + self.bias
        parts = torch.split(logits, list(self.num_classes.values()), dim=1)
        return dict(zip(self.num_classes, parts, strict=True))

    def ids(self, token_id: Tensor, code_point: Tensor) -> Tensor:
        """Return the slot of every n-gram, int64 [B, N]; 0 stands for none."""
        points, seen = code_point.to(torch.int64), code_point > 0
        found = []
        width = points.shape[1]
        running = torch.zeros_like(points)
        for n in range(1, self.longest + 1):
            # An n-gram that ends here extends the shorter one that ends one place before.
            before = functional.pad(running, (1, 0))[:, :width]
            running = (before * _STEP + points) % _PRIME
            whole = functional.pad(seen, (n - 1, 0))[:, :width] & seen
            found.append(torch.where(whole, self._slot(running + n), 0))
        word = token_id > 1  # padding and the leading token are no words
        pair = functional.pad(token_id, (1, 0))[:, : token_id.shape[1]]
        pairs = (pair * _STEP + token_id) % _PRIME
        found.append(torch.where(word, self._slot(token_id * _STEP % _PRIME + 101), 0))
        found.append(torch.where(word & (pair > 1), self._slot(pairs + 211), 0))
        return torch.cat(found, dim=1)

    def weigh(self, document_frequency: Tensor, num_documents: int) -> None:
        """Set the weights of n-grams: smoothed inverse document frequency, 0 for n-grams not in training."""
        rarity = torch.log((1 + num_documents) / (1 + document_frequency.to(torch.float32))) + 1
        rarity[document_frequency == 0] = 0
        rarity[0] = 0
        self.rarity.copy_(rarity)

    def _slot(self, hashed: Tensor) -> Tensor:
        return hashed % _PRIME * _SCATTER % _PRIME % (self.num_slots - 1) + 1
