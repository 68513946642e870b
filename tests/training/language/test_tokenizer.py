"""What text becomes token ids, and that the file alone repeats it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer, decoders

from shopsight.serving.routing.texts import CODE_POINTS_PER_TOKEN, read_texts
from shopsight.training.data.cleaning.masking import mask_personal_data
from shopsight.training.language.tokenizer import MASK, START, Splitter, train_tokenizer
from tests.training.language_shop import messages


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return read_texts(tokenizer, texts, 32).tokens


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([text for _, text, _, _ in messages()], vocab_size=600, max_tokens=32)


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
    assert not {0, START, MASK} & set(ids[1:])


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


def test_code_points_are_those_of_the_normalised_text_between_spaces(tokenizer: Tokenizer) -> None:
    texts = read_texts(tokenizer, ["  ＷHERE\u200f is\tmy 外套 😀", "", "a" * 999], 32)
    said = ["".join(map(chr, points.tolist())) for points in texts.code_points]
    assert said == [" where is my 外套 😀 ", "  ", (" " + "a" * 999)[: 32 * CODE_POINTS_PER_TOKEN]]


def test_a_text_goes_to_the_shortest_shape_that_holds_tokens_and_characters(tokenizer: Tokenizer) -> None:
    texts = read_texts(tokenizer, ["where is my jacket", "退" * 8, "退" * 7, "x" * 99], 32)
    groups = texts.by_length([8, 16, 32])
    assert groups == {8: [0, 2], 16: [1], 32: [3]} or len(texts.tokens[0]) > 8
    padded = texts.padded(groups[16], 16)
    assert padded["TOKEN_ID"].shape == (1, 16) and padded["CODE_POINT"].shape == (
        1,
        16 * CODE_POINTS_PER_TOKEN,
    )
    np.testing.assert_array_equal(padded["TOKEN_ID"][0, 9:], 0)
    np.testing.assert_array_equal(padded["LENGTH"], [[9]])
    assert {name: len(value) for name, value in texts.padded([]).items()} == dict.fromkeys(padded, 0)


def test_split_tokens_spell_the_same_text_and_follow_the_seed(tokenizer: Tokenizer) -> None:
    texts = read_texts(tokenizer, [text for _, text, _, _ in messages(40)], 32)
    split = Splitter(tokenizer, 0.3, 64)(texts, np.random.default_rng(0))
    decoded = [[tokenizer.decode(row) for row in some.tokens] for some in (texts, split)]
    assert [text.replace(" ", "") for text in decoded[0]] == [text.replace(" ", "") for text in decoded[1]]
    assert sum(map(len, split.tokens)) > sum(map(len, texts.tokens))
    again = Splitter(tokenizer, 0.3, 64)(texts, np.random.default_rng(0))
    assert again.tokens == split.tokens
    assert Splitter(tokenizer, 0.3, 64)(texts, np.random.default_rng(1)).tokens != split.tokens
    assert Splitter(tokenizer, 0.0, 64)(texts, np.random.default_rng(0)).tokens == texts.tokens
    assert max(map(len, Splitter(tokenizer, 1.0, 9)(texts, np.random.default_rng(0)).tokens)) <= 9


def test_no_token_is_the_word_of_fewer_than_three_people() -> None:
    texts = ["where is my parcel"] * 3 + ["zyxquill zyxquill wants zyxquill's lamp, zyxquilling"] * 40
    authors = [0, 1, 2, *[3] * 20, *[4] * 20]
    vocab = train_tokenizer(texts, 600, 32, authors).get_vocab()
    assert any("parcel" in token for token in vocab)
    assert not [
        token
        for token in vocab
        if len(token) > 1 and token.lstrip("Ġ") in "zyxquilling's" and "[" not in token
    ]
    everyone = train_tokenizer(texts, 600, 32).get_vocab()
    assert any("zyxquill" in token for token in everyone)
    tokenizer = train_tokenizer(texts, 600, 32, authors)
    ids = tokenizer.encode("zyxquill wants a parcel").ids
    assert tokenizer.decode(ids).strip().endswith("parcel") and sorted(vocab.values()) == list(
        range(len(vocab))
    )
