"""Masking: personal data leaves free text, everything else stays."""

from __future__ import annotations

import polars as pl
import pytest

from shopsight.training.data.cleaning.masking import language_of, mask_personal_data


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
        ("IBAN GB29NWBK60161331926819, please", "IBAN [iban], please"),
        ("gb29 nwbk 6016 1331 9268 19", "[iban]"),
        ("amex 3782 822463 10005", "amex [card]"),
        ("+49 (0) 171 - 123 45 67", "[phone]"),
        ("邮箱zhang.san@qq.com联系", "邮箱[email]联系"),
        ("user@例子.公司", "[email]"),
        ("anna [at] mail [dot] example", "[email]"),
        ("座机010-12345678，或(021)62345678", "座机[phone]，或[phone]"),
        ("手机号是+86 138 1234 5678。", "手机号是[phone]。"),
        ("电话１３８１２３４５６７８", "电话[phone]"),
        ("身份证11010519900307851X", "身份证[id]"),
        ("银行卡 6222 0212 3456 7890 128", "银行卡 [card]"),
        ("two: a@x.example, 4111111111111111 and 5500-0000-0000-0004", "two: [email], [card] and [card]"),
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
        "订单号2024050612345678901 物流",
        "order no. 4111111111111112 is no card: its check digit is wrong",
        "order #100-2345678-1234567",
        "tracking 00340434161094015902 and 1Z999AA10123456784",
        "ISBN 9783161484100",
        "pay DE88370400440532013000: no such IBAN",
        "version 10.0.0.1 from 192.168.10.12",
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
