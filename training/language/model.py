"""One small transformer, several heads: token ids and a length in, one row of logits per task out.

Legend of shapes: B messages, L tokens, D width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.nearest_example import ExampleSimilarity
from shopsight.training.language.ngrams import NgramView
from shopsight.training.language.tokenizer import MASK, START

_TABLE_SPREAD = 0.05
_FIRST_SCALE = 0.2
_HIDDEN = -1e4  # far below every score, finite in half precision too


class Body(Protocol):
    """Interface of the network that reads token ids: SmallBody, or a pre-trained encoder (pretrained.py)."""

    num_features: int

    def __call__(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return features float32 [B, num_features] for token_id int64 [B, L] and length int64 [B, 1]."""

    def states(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return the hidden state of each token, float32 [B, L, D]."""

    def token_table(self) -> nn.Embedding:
        """Return the embedding table of the vocabulary, [V, D]."""


class Encoder(nn.Module):
    """A body with one linear head per task, and a linear model of n-grams beside it.

    Each of the two has its own loss (ngrams.py). The logits of a message are their weighted sum: body_share,
    float32 [tasks], is the weight of the heads, 1 - body_share that of the n-grams; validation chooses it
    (calibration.py). num_known: number of known messages for example similarity (nearest_example.py).
    """

    def __init__(
        self, config: LanguageConfig, body: nn.Module, num_classes: Mapping[str, int], num_known: int = 0
    ) -> None:
        super().__init__()
        self.body = body
        self.num_features: int = body.num_features  # type: ignore[assignment]
        self.drop_head = nn.Dropout(config.head_dropout)
        self.num_classes = {task: n for task, n in num_classes.items() if n}
        self.heads = nn.ModuleDict({t: nn.Linear(self.num_features, n) for t, n in self.num_classes.items()})
        self.ngrams = NgramView(config.ngram_slots, config.longest_ngram, config.ngram_dropout, num_classes)
        self.body_share: Tensor
        self.register_buffer("body_share", torch.full((len(self.num_classes), 1, 1), 0.5))
        self.example_similarity = ExampleSimilarity(num_known, self.num_features)

    def forward(self, token_id: Tensor, length: Tensor, code_point: Tensor) -> dict[str, Tensor]:
        """Return logits [B, C] per task.

        token_id int64 [B, L] and code_point int32 [B, any], padded with 0, and length int64 [B, 1].
        """
        return self.mixed(self.by_tokens(token_id, length), self.ngrams(token_id, code_point))

    def understand(
        self, token_id: Tensor, length: Tensor, code_point: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        """Return what is served: unit vectors [B, num_features], the logits of `forward`, and the example
        similarity [B, 1] (None without known messages)."""
        features = self.features(token_id, length)
        ngram_BN = self.ngrams.ids(token_id, code_point)
        logits = self.mixed(self.said_of(features), self.ngrams.said_of(ngram_BN))
        embedding = functional.normalize(features, dim=1)
        if not self.is_compared:
            return embedding, logits, None
        return embedding, logits, self.example_similarity(embedding, ngram_BN, self.ngrams.rarity[ngram_BN])

    def compared(self, token_id: Tensor, length: Tensor, code_point: Tensor) -> Tensor:
        """Return the vectors that example similarity compares, float32 [B, COLUMNS + num_features]."""
        ngram_BN = self.ngrams.ids(token_id, code_point)
        embedding = functional.normalize(self.features(token_id, length), dim=1)
        return self.example_similarity.vectors(embedding, ngram_BN, self.ngrams.rarity[ngram_BN])

    @property
    def is_compared(self) -> bool:
        """Whether the model has known messages to compare with."""
        return len(self.example_similarity.known) > 0

    def mixed(self, by_body: Mapping[str, Tensor], by_ngrams: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted sum of both views' logits [B, C] per task; equal shares give the plain sum."""
        shares = zip(self.num_classes, self.body_share, strict=True)
        return {task: 2 * (share * by_body[task] + (1 - share) * by_ngrams[task]) for task, share in shares}

    def by_tokens(self, token_id: Tensor, length: Tensor) -> dict[str, Tensor]:
        """Return the logits of the encoder alone, without those of the n-grams."""
        return self.said_of(self.features(token_id, length))

    def said_of(self, features: Tensor) -> dict[str, Tensor]:
        """Return the heads' logits [B, C] per task for features [B, num_features]."""
        features = self.drop_head(features)
        return {task: head(features) for task, head in self.heads.items()}

    def features(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return the input of the heads, float32 [B, num_features]."""
        features: Tensor = self.body(token_id, length)
        return features


class SmallBody(nn.Module):
    """Three views of a message, concatenated and trained from scratch.

    A bag of tokens, as in a linear model (Joulin et al. 2017); the maximum over convolutions, which detect
    phrases at any position (Kim 2014); and the mean over a pre-norm transformer on top of the convolutions
    (Vaswani et al. 2017), which sees position and context. The views are concatenated because the transformer
    alone does worse than a linear model on a few thousand messages.
    """

    def __init__(self, config: LanguageConfig, vocab_size: int) -> None:
        super().__init__()
        width = config.width
        self.token = _table(vocab_size, width)
        self.position = _table(config.max_tokens, width)
        self.conv = Phrases(width, config.conv_widths)
        self.conv_norm = nn.LayerNorm(width)
        self.phrase_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.drop_embedding = SharedDropout(config.embedding_dropout)
        self.word_dropout, self.num_features = config.word_dropout, 3 * width

    def forward(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return float32 [B, 3 D]; word dropout applies during training."""
        if self.training:
            hidden = torch.rand(token_id.shape) < self.word_dropout
            token_id = torch.where(hidden & (token_id > START), MASK, token_id)
        inside_BL = _inside(token_id, length)
        weight_BL1 = inside_BL.unsqueeze(-1).to(torch.float32)
        embedded_BLD, phrase_BLD, state_BLD = self._views(token_id, inside_BL)
        count_B1 = length.to(torch.float32)
        bag_BD = embedded_BLD.sum(1) / count_B1.sqrt()
        phrase_BD = self.phrase_norm(phrase_BLD).masked_fill(weight_BL1 == 0, _HIDDEN).amax(1)
        mean_BD = (state_BLD * weight_BL1).sum(1) / count_B1
        return torch.cat([bag_BD, phrase_BD, mean_BD], dim=1)

    def states(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return the transformer's last states, float32 [B, L, D]."""
        return self._views(token_id, _inside(token_id, length))[2]

    def token_table(self) -> nn.Embedding:
        """Return the embedding table of the vocabulary, [V, D]."""
        return self.token

    def _views(self, token_id: Tensor, inside_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, phrases and states of a message, each float32 [B, L, D]."""
        weight_BL1 = inside_BL.unsqueeze(-1).to(torch.float32)
        embedded_BLD = self.drop_embedding(self.token(token_id) * weight_BL1)
        local_BLD = functional.gelu(self.conv(embedded_BLD))
        phrase_BLD = embedded_BLD + self.conv_norm(local_BLD)
        x_BLD = phrase_BLD + self.position(torch.arange(token_id.shape[1], device=token_id.device))
        for block in self.blocks:
            x_BLD = block(x_BLD, inside_BL)
        return embedded_BLD, phrase_BLD, self.norm(x_BLD)


class Phrases(nn.Module):
    """Parallel convolutions of the given widths (in tokens); each gives an equal part of the channels."""

    def __init__(self, width: int, lengths: Sequence[int]) -> None:
        super().__init__()
        shares = [width // len(lengths) + (i < width % len(lengths)) for i in range(len(lengths))]
        self.convs = nn.ModuleList(
            nn.Conv1d(width, share, length, padding=length // 2)
            for share, length in zip(shares, lengths, strict=True)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return float32 [B, L, D] for x_BLD float32."""
        x_BDL = x_BLD.transpose(1, 2)
        return torch.cat([conv(x_BDL) for conv in self.convs], dim=1).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer of twice the width, each with a residual connection.

    Both have a learned scale that starts at 0.2 (LayerScale, Touvron et al. 2021).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.attention_scale = nn.Parameter(torch.full((width,), _FIRST_SCALE))
        self.forward_scale = nn.Parameter(torch.full((width,), _FIRST_SCALE))
        self.drop = SharedDropout(dropout)

    def forward(self, x_BLD: Tensor, inside_BL: Tensor) -> Tensor:
        """Return float32 [B, L, D] for x_BLD float32; inside_BL bool is False for padding."""
        attended_BLD = self.drop(self._attend(self.attention_norm(x_BLD), inside_BL))
        x_BLD = x_BLD + self.attention_scale * attended_BLD
        hidden = self.drop(functional.gelu(self.up(self.forward_norm(x_BLD))))
        after: Tensor = x_BLD + self.forward_scale * self.drop(self.down(hidden))
        return after

    def _attend(self, x_BLD: Tensor, inside_BL: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        per_head = self.qkv(x_BLD).reshape(B, L, 3, self.num_heads, D // self.num_heads)
        q, k, v = per_head.permute(2, 0, 3, 1, 4).unbind(0)
        score = q @ k.transpose(-1, -2) / math.sqrt(D // self.num_heads)
        score = score.masked_fill(~inside_BL[:, None, None, :], _HIDDEN)
        mixed: Tensor = self.out((score.softmax(-1) @ v).transpose(1, 2).reshape(B, L, D))
        return mixed


class SharedDropout(nn.Module):
    """Dropout with one mask per message and channel, shared by its tokens (Gal and Ghahramani 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x_BLD: Tensor) -> Tensor:
        """Return x_BLD; during training, whole channels of a message are set to zero."""
        if not self.training or self.share == 0:
            return x_BLD
        kept = torch.rand(x_BLD.shape[0], 1, x_BLD.shape[2]) >= self.share
        return x_BLD * (kept.to(x_BLD.dtype) / (1 - self.share))


def _inside(token_id: Tensor, length: Tensor) -> Tensor:
    place_L = torch.arange(token_id.shape[1], device=token_id.device)
    return place_L[None, :] < length


def _table(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=_TABLE_SPREAD)
    return table
