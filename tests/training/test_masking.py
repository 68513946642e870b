"""Masking: personal data leaves free text, everything else stays."""

from __future__ import annotations

import polars as pl
import pytest

from training.data.masking import language_of, mask_personal_data


def masked(text: str) -> str:
    return str(pl.select(mask_personal_data(pl.lit(text))).item())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to Anna.Abel+x@mail.example.org!", "write to [email]!"),
        ("call +49 171 1234567 now", "call [phone] now"),
        ("call 0049 (0)171 1234567", "call [phone]"),
        ("tel: 0171-1234567.", "tel: [phone]."),
        ("06 12 34 56 78", "[phone]"),
        ("(030) 1234 5678", "[phone]"),
        ("call 555-123-4567", "call [phone]"),
        ("我的电话13812345678请回电", "我的电话[phone]请回电"),
        ("card 4111 1111 1111 1111 charged", "card [card] charged"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("pay to DE89 3704 0044 0532 0130 00", "pay to [iban]"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 12345678 of 2024-05-06 cost 1,299.00",
        "arrived 06.05.2024 at 10:30",
        "item A1234567, size 42, 3 pieces",
        "订单号 202405061 还没到",
        "ratio 16:9 @ home",
        "",
    ],
)
def test_dates_prices_and_order_numbers_stay(text: str) -> None:
    assert masked(text) == text


def test_the_script_tells_the_language() -> None:
    frame = pl.DataFrame(
        {"text": ["Where is it?", "我的包裹在哪里", "iPhone 坏了怎么办", "one 字 in a long sentence", ""]}
    )
    assert frame.select(language_of(pl.col("text"))).to_series().to_list() == ["en", "zh", "zh", "en", "en"]
