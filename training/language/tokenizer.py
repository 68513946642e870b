"""Text to token ids: a byte-level BPE (Sennrich et al. 2016) learned on the shop's own messages.

Normalisation, the leading token and truncation are part of `tokenizer.json`, so that serving repeats none of
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from shopsight.serving.routing.texts import Texts
from shopsight.training.data.cleaning.masking import MASKS

START, MASK = 1, 2  # 0 pads
_SPECIAL = ["[PAD]", "[CLS]", "[MASK]"]
_LEAST_AUTHORS = 3


def normalizer() -> normalizers.Normalizer:
    """Return the normaliser: NFKC, masking, lower case, single spaces, no long numbers or control characters.

    Texts in the tables are masked and texts in requests are not; masking here makes both equal for the model.
    """
    return normalizers.Sequence(
        [
            normalizers.NFKC(),  # first, as in the tables: full-width digits are masked too
            *(normalizers.Replace(Regex(with_lookaround(pattern)), word) for pattern, word in MASKS),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[0-9]{4,}"), "0000"),  # order numbers carry no meaning
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r"[\p{Cc}\p{Cf}]"), ""),
            normalizers.Strip(),
        ]
    )


def with_lookaround(pattern: str) -> str:
    """Return a mask's pattern with lookaround for captured neighbours, which a normaliser would lose."""
    looked_at = pattern.replace("(^|[^0-9])", "(?<![0-9])").replace("([^0-9]|$)", "(?![0-9])")
    return looked_at.replace("()", "")


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_tokens: int, authors: Sequence[int] | None = None
) -> Tokenizer:
    """Learn a byte-level BPE on `texts`; every text starts with [CLS] and is truncated to `max_tokens`.

    The alphabet is bytes, so that no text has unknown tokens: Chinese, emoji and typos are kept. authors: an
    integer for the author of each text (by default all differ). Words of fewer than three authors get no
    token of their own, so that the served vocabulary contains no names.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer()
    # Chinese has no spaces: without this, repeated whole sentences would become one token.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", START)]
    )
    tokenizer.enable_truncation(max_tokens)
    # Added tokens would match in messages: "[PAD]" that a customer writes must be ordinary text.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    writers = range(len(texts)) if authors is None else authors
    content["model"] = _with_common_tokens(content["model"], _words_by_author(tokenizer, texts, writers))
    return Tokenizer.from_str(json.dumps(content))


def _words_by_author(
    tokenizer: Tokenizer, texts: Sequence[str], authors: Sequence[int]
) -> dict[str, set[int]]:
    """Return the authors of each word, as the tokenizer spells it."""
    split, normalize = tokenizer.pre_tokenizer.pre_tokenize_str, tokenizer.normalizer.normalize_str
    words: dict[str, set[int]] = {}
    for text, author in zip(texts, authors, strict=True):
        for word, _ in split(normalize(text)):
            words.setdefault(word, set()).add(int(author))
    return words


def _with_common_tokens(model: dict[str, Any], words: dict[str, set[int]]) -> dict[str, Any]:
    """Return a BPE without the tokens that occur only in words of too few authors.

    The parts of a token occur in the same words, so that every kept merge keeps its parts.
    """
    vocab: dict[str, int] = model["vocab"]
    longest, written_by = max(map(len, vocab)), dict[str, set[int]]()
    for word, authors in words.items():
        for start in range(len(word)):
            for stop in range(start + 2, min(len(word), start + longest) + 1):
                if word[start:stop] in vocab:
                    written_by.setdefault(word[start:stop], set()).update(authors)
    rare = {
        token for token in vocab
        if len(token) > 1 and token not in _SPECIAL and len(written_by.get(token, ())) < _LEAST_AUTHORS
    }  # fmt: skip
    kept = [token for token in sorted(vocab, key=vocab.__getitem__) if token not in rare]
    merges = [pair for pair in model["merges"] if "".join(pair) not in rare]
    return model | {"vocab": {token: number for number, token in enumerate(kept)}, "merges": merges}


class Splitter:
    """Randomly splits some tokens into the two that they were merged from, recursively.

    The model then also learns the parts of words, which typos and rare words consist of. It is a seeded form
    of BPE dropout (Provilkov et al. 2020).
    """

    def __init__(self, tokenizer: Tokenizer, share: float, max_tokens: int) -> None:
        content = json.loads(tokenizer.to_str())["model"]
        vocab: dict[str, int] = content["vocab"]
        self._parts = {vocab[a + b]: (vocab[a], vocab[b]) for a, b in content["merges"]}
        self._share, self._max_tokens = share, max_tokens

    def __call__(self, texts: Texts, rng: np.random.Generator) -> Texts:
        """Return the texts with newly drawn tokens; their code points are unchanged."""
        draws = iter(rng.random(2 * sum(map(len, texts.tokens)) + 1).tolist())
        return replace(texts, tokens=[self._split(row, draws)[: self._max_tokens] for row in texts.tokens])

    def _split(self, tokens: Sequence[int], draws: Iterator[float]) -> list[int]:
        said: list[int] = []
        ahead = list(reversed(tokens))
        while ahead:
            token = ahead.pop()
            if token in self._parts and next(draws, 1.0) < self._share:
                ahead += reversed(self._parts[token])
            else:
                said.append(token)
        return said
