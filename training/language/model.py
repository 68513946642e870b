"""One small transformer, several heads: token ids and a length in, one row of logits per task out.

Legend of shapes: B messages, L tokens, D width, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.language.config import LanguageConfig

_HIDDEN = -1e4  # far below every score, finite in half precision too


class Encoder(nn.Module):
    """A bag of tokens beside convolution and self-attention, pooled and read by linear heads.

    The bag is what a linear model sees (Joulin et al. 2017), the transformer (Vaswani et al. 2017,
    normalised first) adds order. Position enters through the convolution alone, so that no length is special.
    """

    def __init__(self, config: LanguageConfig, vocab_size: int, num_classes: Mapping[str, int]) -> None:
        super().__init__()
        width = config.width
        self.token = _table(vocab_size, width)
        self.conv = nn.Conv1d(width, width, config.conv_width, padding=config.conv_width // 2)
        self.conv_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.drop_embedding = SharedDropout(config.embedding_dropout)
        self.drop_head = nn.Dropout(config.head_dropout)
        features = 3 * width
        self.heads = nn.ModuleDict({task: nn.Linear(features, n) for task, n in num_classes.items() if n})

    def forward(self, token_id: Tensor, length: Tensor) -> dict[str, Tensor]:
        """Return logits [B, C] per task for token_id int64 [B, L], padded with 0, and length int64 [B, 1]."""
        features = self.drop_head(self.features(token_id, length))
        return {task: head(features) for task, head in self.heads.items()}

    def features(self, token_id: Tensor, length: Tensor) -> Tensor:
        """Return what the heads read, float32 [B, 3 D]."""
        inside_BL = torch.arange(token_id.shape[1], device=token_id.device)[None, :] < length
        weight_BL1 = inside_BL.unsqueeze(-1).to(torch.float32)
        embedded_BLD = self.drop_embedding(self.token(token_id) * weight_BL1)
        local_BDL = functional.gelu(self.conv(embedded_BLD.transpose(1, 2)))
        x_BLD = embedded_BLD + self.conv_norm(local_BDL.transpose(1, 2))
        for block in self.blocks:
            x_BLD = block(x_BLD, inside_BL)
        x_BLD = self.norm(x_BLD)
        count_B1 = length.to(torch.float32)
        mean_BD = (x_BLD * weight_BL1).sum(1) / count_B1
        max_BD = x_BLD.masked_fill(weight_BL1 == 0, _HIDDEN).amax(1)
        bag_BD = embedded_BLD.sum(1) / count_B1.sqrt()
        return torch.cat([mean_BD, max_BD, bag_BD], dim=1)


class Block(nn.Module):
    """Self-attention and a feed-forward layer of twice the width, each normalised first, each a residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.drop = SharedDropout(dropout)

    def forward(self, x_BLD: Tensor, inside_BL: Tensor) -> Tensor:
        """Return x_BLD float32 after attention among the tokens inside each message."""
        x_BLD = x_BLD + self.drop(self._attend(self.attention_norm(x_BLD), inside_BL))
        hidden = self.drop(functional.gelu(self.up(self.forward_norm(x_BLD))))
        after: Tensor = x_BLD + self.drop(self.down(hidden))
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
        """Return x_BLD with whole channels of a message zeroed while training."""
        if not self.training or self.share == 0:
            return x_BLD
        kept = torch.rand(x_BLD.shape[0], 1, x_BLD.shape[2]) >= self.share
        return x_BLD * (kept.to(x_BLD.dtype) / (1 - self.share))


def _table(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.05)
    return table
