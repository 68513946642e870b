"""Text to token ids: one byte-level BPE, learned on the shop's own messages, that is all a server needs.

Normalisation, the leading token and truncation are part of `tokenizer.json`, so that serving repeats none.
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
    """Return what every text goes through: NFKC, masks, lower case, one space, no long numbers or controls.

    Tables hold masked texts and requests do not: masking here makes both the same to the model.
    """
    return normalizers.Sequence(
        [
            normalizers.NFKC(),  # first, because tables have full-width digits made ordinary and masked
            *(normalizers.Replace(Regex(with_lookaround(pattern)), word) for pattern, word in MASKS),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[0-9]{4,}"), "0000"),  # order numbers: which one says nothing
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r"[\p{Cc}\p{Cf}]"), ""),
            normalizers.Strip(),
        ]
    )


def with_lookaround(pattern: str) -> str:
    """Return a mask's pattern with its neighbours looked at, not captured: a normaliser cannot put back."""
    looked_at = pattern.replace("(^|[^0-9])", "(?<![0-9])").replace("([^0-9]|$)", "(?![0-9])")
    return looked_at.replace("()", "")


def train_tokenizer(
    texts: Sequence[str], vocab_size: int, max_tokens: int, authors: Sequence[int] | None = None
) -> Tokenizer:
    """Learn a byte-level BPE on `texts`; every text gets [CLS] first and is cut to `max_tokens`.

    Bytes are its alphabet, so that no text is unknown to it: Chinese, emoji and typos survive. No token is
    the word of fewer than three `authors`, a number for who wrote each text (by default someone else each):
    a served vocabulary shows nobody's name.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer()
    # Chinese has no spaces: without this, whole sentences that a corpus repeats would become one token.
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
    # As added tokens they would be found in what customers write: "[PAD]" in a message is a word like others.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    writers = range(len(texts)) if authors is None else authors
    content["model"] = _with_common_tokens(content["model"], _words_by_author(tokenizer, texts, writers))
    return Tokenizer.from_str(json.dumps(content))


def _words_by_author(
    tokenizer: Tokenizer, texts: Sequence[str], authors: Sequence[int]
) -> dict[str, set[int]]:
    """Of each word, as the tokenizer spells it, who wrote it."""
    split, normalize = tokenizer.pre_tokenizer.pre_tokenize_str, tokenizer.normalizer.normalize_str
    words: dict[str, set[int]] = {}
    for text, author in zip(texts, authors, strict=True):
        for word, _ in split(normalize(text)):
            words.setdefault(word, set()).add(int(author))
    return words


def _with_common_tokens(model: dict[str, Any], words: dict[str, set[int]]) -> dict[str, Any]:
    """Return a BPE without the tokens that are part of the words of too few authors.

    What a token is merged of is part of the same words, so that no merge that stays loses its parts.
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
    """Reads some tokens as the two that they are merged of, and some of those again.

    What is learned of words is then learned of their parts too, which typos and rare words are made of. BPE
    dropout (Provilkov et al. 2020) to the same end, but from a seed.
    """

    def __init__(self, tokenizer: Tokenizer, share: float, max_tokens: int) -> None:
        content = json.loads(tokenizer.to_str())["model"]
        vocab: dict[str, int] = content["vocab"]
        self._parts = {vocab[a + b]: (vocab[a], vocab[b]) for a, b in content["merges"]}
        self._share, self._max_tokens = share, max_tokens

    def __call__(self, texts: Texts, rng: np.random.Generator) -> Texts:
        """Return the texts with other tokens, drawn anew; their code points are the same."""
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
