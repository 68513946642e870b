"""Masked-language pre-training (Devlin et al. 2019) on the shop's own texts, labelled or not."""

from __future__ import annotations

import math

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopsight.serving.progress import Progress, counted
from shopsight.serving.routing.texts import Texts
from shopsight.training.language.batches import shuffled
from shopsight.training.language.checkpoint import as_tensors
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.corpus import LanguageError
from shopsight.training.language.model import Body

_CHOSEN, _HIDDEN, _SWAPPED = 0.15, 0.8, 0.1  # share of the tokens; shares of the chosen ones
_MASKS = ("[MASK]", "<mask>")


class _Guess(nn.Module):
    """Logits over the vocabulary for a hidden state, with the weights of the body's embedding table."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table
        self.transform = nn.Linear(table.embedding_dim, table.embedding_dim)
        self.norm = nn.LayerNorm(table.embedding_dim)
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings))

    def forward(self, state: Tensor) -> Tensor:
        return functional.linear(
            self.norm(functional.gelu(self.transform(state))), self.table.weight, self.bias
        )


def pretrain(
    body: Body, tokenizer: Tokenizer, texts: Texts, config: LanguageConfig, progress: Progress
) -> list[float]:
    """Train `body` in place for config.pretrain_epochs; returns the loss of each epoch, in nats per token.

    The loss is the cross-entropy of masked tokens. Raises LanguageError if the tokeniser has no mask token.
    """
    mask = next((i for i in map(tokenizer.token_to_id, _MASKS) if i is not None), None)
    if mask is None:
        raise LanguageError(f"encoder {config.encoder}: its tokeniser has no {' or '.join(_MASKS)}")
    assert isinstance(body, nn.Module)
    guess = _Guess(body.token_table())
    learning = [p for p in dict.fromkeys([*body.parameters(), *guess.parameters()]) if p.requires_grad]
    rate = config.encoder_learning_rate if config.encoder else config.learning_rate
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    lengths = np.array([len(row) for row in texts.tokens], dtype=np.int64)
    steps = config.pretrain_epochs * math.ceil(len(texts) / config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    torch.manual_seed(config.seed)
    losses = []
    body.train()
    with counted(progress, "pre-training steps", steps) as done:
        for epoch in range(config.pretrain_epochs):
            rng = np.random.default_rng([config.seed, 1, epoch])
            total, count = 0.0, 0
            for chosen in shuffled(lengths, config.batch_size, rng):
                token_id, length, _ = as_tensors(texts.padded(chosen))
                shown, asked = _hide(token_id, length, mask, guess.bias.shape[0])
                loss = functional.cross_entropy(guess(body.states(shown, length)[asked]), token_id[asked])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(learning, 1.0)
                optimizer.step()
                schedule.step()
                done(1)
                total, count = total + float(loss.detach()) * int(asked.sum()), count + int(asked.sum())
            losses.append(total / max(1, count))
            loss_now = f"{losses[-1]:.3f} nats per masked token"
            progress(f"pre-training {epoch + 1} of {config.pretrain_epochs}: loss {loss_now}")
    return losses


def _hide(token_id: Tensor, length: Tensor, mask: int, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Return the ids with some masked or replaced, and which to predict, bool, at least one per message."""
    place = torch.arange(token_id.shape[1])[None, :]
    may = (place > 0) & (place < length)
    draw = torch.rand(token_id.shape).masked_fill(~may, 2.0)
    asked = may & ((draw < _CHOSEN) | (draw == draw.min(1, keepdim=True).values))
    fate = torch.rand(token_id.shape)
    swapped = torch.where(fate < _HIDDEN + _SWAPPED, torch.randint_like(token_id, 3, vocab_size), token_id)
    shown = torch.where(fate < _HIDDEN, mask, swapped)
    return torch.where(asked, shown, token_id), asked
