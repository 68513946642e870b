"""How near a message is to the nearest of those that taught the intents, in its words and in its meaning.

A classifier is sure of what it never saw where it was never taught doubt; a message like none of the known
ones is out of scope whatever the classifier says (Sun et al. 2022). Legend of shapes: B messages, M known
ones, F features, N n-grams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

COLUMNS = 512  # that a message's n-grams are folded into
_SCATTER, _PRIME = 2_654_435_761, 2**31 - 1


class Familiarity(nn.Module):
    """The cosine to the nearest known message: the mean of one of n-grams and one of the encoder's vectors.

    N-grams weigh as TF-IDF weighs them, those that training never saw as its rarest, and are folded with
    random signs into few columns, which keeps cosines on average (count sketch, Charikar et al. 2002).
    """

    def __init__(self, num_known: int, num_features: int) -> None:
        super().__init__()
        self.known: Tensor
        self.scale: Tensor
        self.rarest: Tensor
        self.register_buffer("known", torch.zeros(num_known, COLUMNS + num_features, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(num_known, 1))
        self.register_buffer("rarest", torch.ones(1))

    def forward(self, embedding: Tensor, ngram_BN: Tensor, rarity_BN: Tensor) -> Tensor:
        """Return float32 [B, 1], -1 to 1, for unit vectors [B, F] and the n-grams' slots and rarity."""
        own = self.vectors(embedding, ngram_BN, rarity_BN)
        known_MD = self.known.to(own.dtype) * self.scale
        return (own @ known_MD.T).amax(1, keepdim=True) / 2

    def keep(self, vectors_MD: Tensor) -> None:
        """Compare with these from now on; as int8 with a scale each, a quarter of the bytes."""
        self.scale = vectors_MD.abs().amax(1, keepdim=True) / 127
        self.known = (vectors_MD / self.scale).round().to(torch.int8)

    def vectors(self, embedding: Tensor, ngram_BN: Tensor, rarity_BN: Tensor) -> Tensor:
        """Return a unit vector of the words and one of the meaning side by side, [B, COLUMNS + F]."""
        unseen_BN = (rarity_BN == 0) & (ngram_BN > 0)
        weight_BN = torch.where(unseen_BN, self.rarest, rarity_BN)
        hashed_BN = ngram_BN * _SCATTER % _PRIME
        sign_BN = (hashed_BN // COLUMNS % 2 * 2 - 1).to(weight_BN.dtype)
        folded = weight_BN.new_zeros(ngram_BN.shape[0], COLUMNS)
        folded = folded.scatter_add(1, hashed_BN % COLUMNS, weight_BN * sign_BN)
        return torch.cat([functional.normalize(folded, dim=1), embedding], dim=1)
