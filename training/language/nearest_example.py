"""Example similarity: the similarity of a message to the nearest training message of the intents.

A classifier can be confident on messages unlike any in training. The distance to the nearest training example
detects such messages (Sun et al. 2022). Legend of shapes: B messages, M known ones, F features, N n-grams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

COLUMNS = 512  # of the count sketch of a message's n-grams
_SCATTER, _PRIME = 2_654_435_761, 2**31 - 1


class ExampleSimilarity(nn.Module):
    """Similarity to the nearest known message: the mean of the cosines of n-grams and of encoder vectors.

    N-grams have TF-IDF weights; n-grams that training never saw get the weight of the rarest one. A count
    sketch (Charikar et al. 2002) hashes them with random signs into COLUMNS columns, which preserves cosines
    in expectation.
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
        """Return the similarity, float32 [B, 1], -1 to 1.

        embedding: unit vectors float32 [B, F]; ngram_BN: slots of the n-grams, int64 [B, N];
        rarity_BN: their inverse document frequencies, float32 [B, N].
        """
        own = self.vectors(embedding, ngram_BN, rarity_BN)
        known_MD = self.known.to(own.dtype) * self.scale
        return (own @ known_MD.T).amax(1, keepdim=True) / 2

    def keep(self, vectors_MD: Tensor) -> None:
        """Replace the known messages by vectors_MD, stored as int8 with one scale per row."""
        self.scale = vectors_MD.abs().amax(1, keepdim=True) / 127
        self.known = (vectors_MD / self.scale).round().to(torch.int8)

    def vectors(self, embedding: Tensor, ngram_BN: Tensor, rarity_BN: Tensor) -> Tensor:
        """Return the unit vector of the words and the embedding, concatenated, float32 [B, COLUMNS + F]."""
        unseen_BN = (rarity_BN == 0) & (ngram_BN > 0)
        weight_BN = torch.where(unseen_BN, self.rarest, rarity_BN)
        hashed_BN = ngram_BN * _SCATTER % _PRIME
        sign_BN = (hashed_BN // COLUMNS % 2 * 2 - 1).to(weight_BN.dtype)
        folded = weight_BN.new_zeros(ngram_BN.shape[0], COLUMNS)
        folded = folded.scatter_add(1, hashed_BN % COLUMNS, weight_BN * sign_BN)
        return torch.cat([functional.normalize(folded, dim=1), embedding], dim=1)
