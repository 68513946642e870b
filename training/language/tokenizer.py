"""Text to token ids: one byte-level BPE, learned on the shop's own messages, that is all a server needs.

Normalisation, the leading token and truncation are part of `tokenizer.json`, so that serving repeats none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from training.data.masking import MASKS

START, MASK = 1, 2  # 0 pads
_SPECIAL = ["[PAD]", "[CLS]", "[MASK]"]


def normalizer() -> normalizers.Normalizer:
    """Return what every text goes through: NFKC, masks, lower case, one space, no long numbers or controls.

    Tables hold masked texts and requests do not: masking here makes both the same to the model.
    """
    return normalizers.Sequence(
        [
            normalizers.NFKC(),  # first, because tables have full-width digits made ordinary and masked
            *(normalizers.Replace(Regex(_with_lookaround(pattern)), word) for pattern, word in MASKS),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[0-9]{4,}"), "0000"),  # order numbers: which one says nothing
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r"[\p{Cc}\p{Cf}]"), ""),
            normalizers.Strip(),
        ]
    )


def _with_lookaround(pattern: str) -> str:
    """Return a mask's pattern with its neighbours looked at, not captured: a normaliser cannot put back."""
    looked_at = pattern.replace("(^|[^0-9])", "(?<![0-9])").replace("([^0-9]|$)", "(?![0-9])")
    return looked_at.replace("()", "")


def train_tokenizer(texts: Iterable[str], vocab_size: int, max_tokens: int) -> Tokenizer:
    """Learn a byte-level BPE on `texts`; every text gets [CLS] first and is cut to `max_tokens`.

    Bytes are its alphabet, so that no text is unknown to it: Chinese, emoji and typos survive.
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
    return Tokenizer.from_str(json.dumps(content))
