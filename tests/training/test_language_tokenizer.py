"""What text becomes token ids, and that the file alone repeats it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer, decoders

from tests.training.language_shop import messages
from training.data.masking import mask_personal_data
from training.language.tokenizer import MASK, PAD, START, encode, pad, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer((text for _, text, _, _ in messages()), vocab_size=600, max_tokens=32)


@pytest.mark.parametrize("text", ["where is my 外套 😀", "wehre iz mi paket", "наш заказ", "½ 𝄞 ñ"])
def test_no_text_is_lost(tokenizer: Tokenizer, text: str) -> None:
    tokenizer.decoder = decoders.ByteLevel()
    said = tokenizer.decode(encode(tokenizer, [text])[0][1:], skip_special_tokens=False)
    assert said.replace(" ", "") == tokenizer.normalizer.normalize_str(text).replace(" ", "")


def test_width_case_spaces_and_invisible_characters_do_not_matter(tokenizer: Tokenizer) -> None:
    plain, odd = encode(tokenizer, ["where is my jacket 1", "  ＷHERE\u200f is\tmy\n\njacket\x00 １ "])
    assert plain == odd


def test_chinese_is_read_character_by_character_and_long_numbers_do_not_matter(tokenizer: Tokenizer) -> None:
    phrase = "我的外套到哪里了"  # often in the corpus
    assert len(encode(tokenizer, [phrase])[0]) == 1 + len(phrase)
    one, other = encode(tokenizer, ["where is WO0012345", "where is WO9981234567"])
    assert one == other
    assert encode(tokenizer, ["2 of 3"]) != encode(tokenizer, ["1 of 3"])


def test_an_empty_text_is_the_leading_token_alone(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, ["", " \u200b "]) == [[START], [START]]


def test_a_long_text_is_cut(tokenizer: Tokenizer) -> None:
    assert len(encode(tokenizer, ["where is " * 1000])[0]) == 32


def test_names_of_special_tokens_are_words_like_others(tokenizer: Tokenizer) -> None:
    ids = encode(tokenizer, ["[PAD] [CLS] [MASK] [pad] [mask]"])[0]
    assert ids[0] == START
    assert not {PAD, START, MASK} & set(ids[1:])


def test_the_saved_file_alone_gives_equal_ids(tokenizer: Tokenizer) -> None:
    loaded = Tokenizer.from_str(tokenizer.to_str())
    texts = [text for _, text, _, _ in messages(50, seed=9)]
    assert encode(loaded, texts) == encode(tokenizer, texts)


@pytest.mark.parametrize(
    "text",
    [
        "write to Anna.Lee+shop@mail.example.com now",
        "my card 4111 1111 1111 1111 was charged",
        "call +49 170 1234567 or (020) 7946 0958, or 13912345678",
        "IBAN DE89 3704 0044 0532 0130 00 please",
        "手机13912345678，邮箱li@example.cn",
        "order WO0000415109 of 2024-05-06 for 49.90",
    ],
)
def test_requests_are_masked_as_the_tables_are(tokenizer: Tokenizer, text: str) -> None:
    masked = pl.select(mask_personal_data(pl.lit(text))).item()
    normalize = tokenizer.normalizer.normalize_str
    assert normalize(text) == normalize(masked)
    assert encode(tokenizer, [text]) == encode(tokenizer, [masked])
    assert ("[" in normalize(text)) == ("order" not in text)


def test_padding_fills_with_zero_to_the_asked_width() -> None:
    token_id, length = pad([[1, 5], [1], [1, 2, 3]], width=4)
    np.testing.assert_array_equal(token_id, [[1, 5, 0, 0], [1, 0, 0, 0], [1, 2, 3, 0]])
    np.testing.assert_array_equal(length, [[2], [1], [3]])
    assert pad([], width=4)[0].shape == (0, 4)
