"""Duplicate detection: whether two messages ask the same, learned from pairs of questions or tickets.

Legend of shapes: B pairs, L tokens of one message, M of the other, N n-grams, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from shopsight.kernels.threads import num_threads
from shopsight.serving.progress import Progress, counted
from shopsight.serving.routing.texts import Texts, read_texts
from shopsight.training.language.batches import shuffled
from shopsight.training.language.checkpoint import as_tensors
from shopsight.training.language.config import LanguageConfig
from shopsight.training.language.metrics import area_under_roc, temperature
from shopsight.training.language.model import SmallBody
from shopsight.training.language.ngrams import NgramView
from shopsight.training.language.tokenizer import train_tokenizer

Inputs = tuple[Tensor, Tensor, Tensor]
_READ = 256  # pairs per batch in inference


@dataclass(frozen=True)
class Pairs:
    """Pairs of messages, and whether the two ask the same, bool [n]."""

    first: Sequence[str]
    second: Sequence[str]
    same: NDArray[np.bool_]

    def at(self, rows: Sequence[int]) -> Pairs:
        """Return some of the pairs."""
        return Pairs([self.first[i] for i in rows], [self.second[i] for i in rows], self.same[list(rows)])


class PairEncoder(nn.Module):
    """Compares two messages by aligned tokens, as a whole, and by shared and unshared n-grams.

    Tokens are aligned by decomposable attention (Parikh et al. 2016) over the states of the small body. The
    result does not depend on the order of the two messages.
    """

    def __init__(self, config: LanguageConfig, vocab_size: int) -> None:
        super().__init__()
        width = config.width
        self.body = SmallBody(config, vocab_size)
        self.compare = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(4 * width, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.judge = nn.Sequential(nn.Dropout(config.head_dropout), nn.Linear(4 * width + 1, 1))
        self.whole_norm = nn.LayerNorm(2 * width)
        # Each n-gram has two weights: one if both messages have it, one if only one does.
        self.ngrams = NgramView(config.ngram_slots, config.longest_ngram, 0.0, {"shared": 1, "lone": 1})
        self.ngram_dropout = config.ngram_dropout

    def forward(self, first: Inputs, second: Inputs) -> Tensor:
        """Return logits float32 [B]; above 0, the two messages ask the same."""
        (own, own_inside), (other, other_inside) = self._states(first), self._states(second)
        judged = self._compared(own, own_inside, other, other_inside)
        judged = judged + self._compared(other, other_inside, own, own_inside)
        one, two = _mean(own, own_inside), _mean(other, other_inside)
        whole = self.whole_norm(torch.cat([(one - two).abs(), one * two], dim=1))
        by_ngrams, overlap = self._by_ngrams(first, second)
        said: Tensor = self.judge(torch.cat([judged, whole, overlap], dim=1)).squeeze(1)
        return said + by_ngrams

    def _states(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        token_id, length, _ = inputs
        inside_BL = torch.arange(token_id.shape[1])[None, :] < length
        return self.body.states(token_id, length), inside_BL

    def _compared(self, own_BLD: Tensor, own_BL: Tensor, other_BMD: Tensor, other_BM: Tensor) -> Tensor:
        """Return the mean and the maximum over the comparisons of one message's tokens, [B, 2 D]."""
        score_BLM = own_BLD @ other_BMD.transpose(1, 2) / math.sqrt(own_BLD.shape[2])
        share_BLM = score_BLM.masked_fill(~other_BM[:, None, :], -1e4).softmax(-1)
        found_BLD = share_BLM @ other_BMD
        both = torch.cat([own_BLD, found_BLD, own_BLD - found_BLD, own_BLD * found_BLD], dim=2)
        compared_BLD = self.compare(both)
        highest = compared_BLD.masked_fill(~own_BL.unsqueeze(-1), -1e4).amax(1)
        return torch.cat([_mean(compared_BLD, own_BL), highest], dim=1)

    def _by_ngrams(self, first: Inputs, second: Inputs) -> tuple[Tensor, Tensor]:
        """Return the logits of the n-grams, [B], and the approximate cosine of the TF-IDF vectors, [B, 1]."""
        ids = [self.ngrams.ids(token_id, code_point) for token_id, _, code_point in (first, second)]
        same_BNN = ids[0].unsqueeze(2) == ids[1].unsqueeze(1)
        said, shared_square, square = torch.zeros(len(ids[0])), [], []
        for own_BN, shared_BN in ((ids[0], same_BNN.any(2)), (ids[1], same_BNN.any(1))):
            rarity_BN = self.ngrams.rarity[own_BN]
            square.append(rarity_BN.square().sum(1) + 1e-6)
            shared_square.append((rarity_BN.square() * shared_BN).sum(1))
            if self.training:
                rarity_BN = rarity_BN * (torch.rand(rarity_BN.shape) >= self.ngram_dropout)
            weight_BN2 = self.ngrams.table(own_BN)
            chosen_BN = torch.where(shared_BN, weight_BN2[..., 0], weight_BN2[..., 1])
            said = said + (chosen_BN * rarity_BN).sum(1) / square[-1].sqrt()
        overlap = (shared_square[0] + shared_square[1]) / (square[0] + square[1])
        return said, overlap.unsqueeze(1)


def _mean(x_BLD: Tensor, inside_BL: Tensor) -> Tensor:
    weight_BL1 = inside_BL.unsqueeze(-1).to(x_BLD.dtype)
    return (x_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)


@dataclass(frozen=True)
class PairModel:
    """A trained pair encoder with its tokeniser, and the temperature that calibrates its probabilities."""

    encoder: PairEncoder
    tokenizer: Tokenizer
    max_tokens: int
    temperature: float = 1.0

    def probability(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that the messages of each pair ask the same, float64 [n]."""
        said = self.logits(first, second) / self.temperature
        shares: NDArray[np.float64] = 1 / (1 + np.exp(-said))
        return shares

    def logits(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """Return the logit of each pair, float64 [n]."""
        own, other = (read_texts(self.tokenizer, texts, self.max_tokens) for texts in (first, second))
        lengths = _lengths(own, other)
        said = np.empty(len(lengths))
        self.encoder.eval()
        order = np.argsort(lengths, kind="stable")
        with torch.inference_mode():
            for chosen in (order[at : at + _READ] for at in range(0, len(order), _READ)):
                said[chosen] = self.encoder(*_inputs(own, other, chosen)).numpy()
        return said


def fit_pairs(pairs: Pairs, held: Pairs, config: LanguageConfig, progress: Progress) -> PairModel:
    """Train on `pairs`; returns the model of the epoch with the highest AUC on `held`, calibrated on it."""
    torch.set_num_threads(min(config.num_threads, num_threads()))
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer([*pairs.first, *pairs.second], config.vocab_size, config.max_tokens)
    own, other = (read_texts(tokenizer, texts, config.max_tokens) for texts in (pairs.first, pairs.second))
    encoder = PairEncoder(config, tokenizer.get_vocab_size())
    encoder.ngrams.weigh(*_document_frequency(encoder.ngrams, own, other))
    model = PairModel(encoder, tokenizer, config.max_tokens)
    optimizer = torch.optim.AdamW(
        encoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    lengths, label = _lengths(own, other), torch.from_numpy(pairs.same.astype(np.float32))
    steps = config.epochs * math.ceil(len(lengths) / config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps, pct_start=0.15
    )
    best_auc, best = -1.0, encoder.state_dict()
    with counted(progress, "training steps", steps) as done:
        for epoch in range(config.epochs):
            encoder.train()
            for chosen in shuffled(lengths, config.batch_size, np.random.default_rng([config.seed, epoch])):
                said = encoder(*_inputs(own, other, chosen))
                loss = functional.binary_cross_entropy_with_logits(said, label[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                done(1)
            logits = model.logits(held.first, held.second)
            auc = area_under_roc(logits[held.same], logits[~held.same])
            progress(f"epoch {epoch + 1} of {config.epochs}: validation AUC {auc:.4f}")
            if auc > best_auc:
                best_auc, best = auc, {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.load_state_dict(best)
    logits = model.logits(held.first, held.second)
    two = np.stack([np.zeros_like(logits), logits], axis=1).astype(np.float32)
    return PairModel(encoder, tokenizer, config.max_tokens, temperature(two, held.same.astype(np.int64)))


def _lengths(own: Texts, other: Texts) -> NDArray[np.int64]:
    return np.array([max(len(a), len(b)) for a, b in zip(own.tokens, other.tokens, strict=True)], np.int64)


def _inputs(own: Texts, other: Texts, chosen: NDArray[np.int64]) -> tuple[Inputs, Inputs]:
    return as_tensors(own.padded(chosen)), as_tensors(other.padded(chosen))


def _document_frequency(ngrams: NgramView, *sides: Texts) -> tuple[Tensor, int]:
    counts = torch.zeros(ngrams.num_slots, dtype=torch.int64)
    for texts in sides:
        for at in range(0, len(texts), _READ):
            token_id, _, code_point = as_tensors(texts.padded(range(at, min(at + _READ, len(texts)))))
            for ids in ngrams.ids(token_id, code_point):
                counts[ids.unique()] += 1
    return counts, sum(map(len, sides))
