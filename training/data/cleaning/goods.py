"""Separates goods from other items: postage, fees, adjustments, discounts and gift cards are not products.

An item is not a good if the sources file or a column `goods` of its file says so, or if its name or code is
that of a fee: all its words are in fees.toml, and at least one names a fee.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

_VOCABULARY = Path(__file__).with_name("fees.toml")
# Codes that shops give to such lines; they count where no title says otherwise.
_CODES = {
    "post": "postage", "dot": "postage", "ship": "postage", "frt": "postage", "cruk": "tip_or_donation",
    "adjust": "adjustment", "adjust2": "adjustment", "bankcharges": "fee",
}  # fmt: skip
# Codes of one letter count only in a shop whose other codes are longer and have digits.
_SHORT_CODES = {
    "m": "adjustment", "d": "discount", "s": "sample_or_test", "b": "adjustment", "c2": "postage",
}  # fmt: skip
_NUMBERED_CODES = ((re.compile(r"gift_\d+_\d+"), "gift_card"), (re.compile(r"test\d{3}"), "sample_or_test"))
_LEAST_CODES, _MOST_ALIKE = 10, 0.9
_ALONE = "sample_or_test"  # beside such a word only numbers may stand
# A shop's own name may stand before these: "Acme gift card".
_NAMED = "gift_card"
_CATEGORIES = ("gift_card", "insurance")  # kinds that a category tells, too
_EXAMPLES = 5
_SPELLINGS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae"})
_JOINED_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"\d+(?:kg|g|h|eur|usd|gbp|er)?")


@dataclass(frozen=True)
class StatedGoods:
    """The [goods] table of the sources file, by id or by a pattern with `*`; it overrides everything else."""

    goods: tuple[str, ...] = ()
    not_goods: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Vocabulary:
    """Phrases and joined words with the kind of fee that they name, and words that may stand beside."""

    phrases: dict[str, str]
    joined: dict[str, str]
    whole: dict[str, str]
    beside: frozenset[str]
    words: frozenset[str]
    phrase: re.Pattern[str]
    carrier: re.Pattern[str]
    script: re.Pattern[str]
    script_beside: re.Pattern[str]


def marked(
    items: pl.DataFrame, seen_ids: pl.Series, stated: StatedGoods
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Decide the column `goods` of the items table; returns the table and notes with the evidence.

    seen_ids: the items of events. Those that no file of items describes have a row if they are no goods, so
    that the flag is known of them too. A filled `goods` is what the files say.
    """
    unlisted = seen_ids.drop_nulls().unique().rename("item_id").to_frame()
    unlisted = unlisted.join(items, on="item_id", how="anti")
    every = pl.concat([items, unlisted], how="diagonal").sort("item_id")
    kinds = _kinds(every, stated)
    fees = pl.DataFrame(
        {"item_id": list(kinds), "kind": list(kinds.values())},
        schema={"item_id": pl.String, "kind": pl.String},
    )
    found = every.join(fees, on="item_id", how="left", maintain_order="left")
    found = found.with_columns(pl.col("kind").is_null().alias("goods"))
    known = items["item_id"].implode()
    table = found.filter(~pl.col("goods") | pl.col("item_id").is_in(known)).select(items.columns)
    return table, (*_told(found), *_unused(every["item_id"], stated))


def of_goods(events: pl.LazyFrame, items: pl.LazyFrame) -> pl.LazyFrame:
    """Return the events without those of items that are not goods; events without an item stay."""
    fees = items.filter(~pl.col("goods").fill_null(True)).select("item_id")
    return events.join(fees, on="item_id", how="anti")


def fee_ids(items: pl.DataFrame) -> pl.Series:
    """Return the ids of items that are not goods."""
    return items.filter(~pl.col("goods").fill_null(True))["item_id"]


def kind_of_fee(name: str) -> str | None:
    """Return the kind of fee that a name describes (fees.toml), or None for a good."""
    vocabulary, text = _vocabulary(), _plain(name)
    if text in vocabulary.whole:
        return vocabulary.whole[text]
    script = _JOINED_SCRIPT.search(text)
    words = _JOINED_SCRIPT.sub(" ", text).split() if script else text.split()
    strange = [w for w in words if w not in vocabulary.words and not _NUMBER.fullmatch(w)]
    if len(strange) > 1 or (not script and not words):
        return None
    kinds: list[str] = []

    def take(match: re.Match[str]) -> str:
        kinds.append(vocabulary.phrases.get(match[0]) or vocabulary.joined[match[0]])
        return " "

    rest = vocabulary.script.sub(take, vocabulary.phrase.sub(take, f" {text} "))
    rest, num_carriers = vocabulary.carrier.subn(" ", vocabulary.script_beside.sub(" ", rest))
    left = [w for w in rest.split() if not _NUMBER.fullmatch(w)]
    beside = [w for w in left if w in vocabulary.beside]
    if not kinds and num_carriers and beside:
        kinds.append("postage")
    if not kinds or (_ALONE in kinds and left):
        return None
    left = [w for w in left if w not in vocabulary.beside]
    if left and not (kinds[-1] == _NAMED and left == strange == words[:1]):
        return None
    return kinds[0]


def _kinds(items: pl.DataFrame, stated: StatedGoods) -> dict[str, str]:
    """What each item that is no good is, by its id."""
    told = items["goods"].to_list()
    columns = ("item_id", "title", "category_path")
    short_codes_count = _have_long_codes(items["item_id"])
    found: dict[str, str] = {}
    for (item, title, category), good in zip(items.select(columns).iter_rows(), told, strict=True):
        said = _stated(item, stated)
        if said is None:
            said = good
        kind = None if said else _kind(item, title, category, short_codes_count)
        if said is False:
            found[item] = "said" if kind is None else kind
        elif said is None and kind is not None:
            found[item] = kind
    return found


def _kind(item: str, title: str | None, category: str | None, short_codes_count: bool) -> str | None:
    if title and (kind := kind_of_fee(title)):
        return kind
    if (kind := kind_of_fee(item)) and sum(map(str.isalpha, item)) > 4:
        return kind
    for part in re.split(r"[>/|]", category or ""):
        if (kind := kind_of_fee(part)) in _CATEGORIES:
            return kind
    if title and any(map(str.isalpha, title)):
        return None
    code = item.casefold().strip()
    for pattern, kind in _NUMBERED_CODES:
        if pattern.fullmatch(code):
            return kind
    return _CODES.get(code) or kind_of_fee(item) or (_SHORT_CODES.get(code) if short_codes_count else None)


def _have_long_codes(ids: pl.Series) -> bool:
    """Whether the codes of a shop are such that one of a single letter stands out."""
    long = ids.str.contains(r"\d") & (ids.str.len_chars() > 3)
    return bool(ids.len() >= _LEAST_CODES and (long.mean() or 0.0) >= _MOST_ALIKE)  # type: ignore[operator]


def _stated(item: str, stated: StatedGoods) -> bool | None:
    for good, patterns in ((True, stated.goods), (False, stated.not_goods)):
        if item in patterns:
            return good
    for good, patterns in ((True, stated.goods), (False, stated.not_goods)):
        if any(_fits(item, pattern) for pattern in patterns):
            return good
    return None


def _fits(item: str, pattern: str) -> bool:
    return item == pattern or ("*" in pattern and fnmatchcase(item, pattern.replace("[", "[[]")))


def _told(found: pl.DataFrame) -> Iterable[str]:
    fees = found.filter(~pl.col("goods"))
    if fees.is_empty():
        return
    counts = Counter(fees["kind"].to_list()).most_common()
    for kind, count in counts:
        of_kind = fees.filter(pl.col("kind") == kind).select("item_id", "title").head(_EXAMPLES)
        named = ", ".join(f'{item} "{title}"' if title else item for item, title in of_kind.iter_rows())
        more = f" and {count - _EXAMPLES:,} more" if count > _EXAMPLES else ""
        why = "the sources say so" if kind == "said" else kind.replace("_", " ")
        yield (
            f"no goods ({why}): {named}{more}; their money counts, they are not recommended; "
            "what is wrong here [goods] of the sources file corrects"
        )


def _unused(ids: pl.Series, stated: StatedGoods) -> Iterable[str]:
    known = set(ids)
    for key, patterns in (("goods", stated.goods), ("not_goods", stated.not_goods)):
        for pattern in patterns:
            if pattern not in known and not any(_fits(item, pattern) for item in known if "*" in pattern):
                yield f'goods.{key} of the sources file names "{pattern}", which no item is'


def _plain(name: str) -> str:
    """A name in lower case without accents, its words apart."""
    letters = unicodedata.normalize(
        "NFKD", name.casefold().translate(_SPELLINGS).replace("gebuehr", "gebuhr")
    )
    bare = "".join(c for c in letters if not unicodedata.combining(c) or _JOINED_SCRIPT.match(c))
    return " ".join(re.sub(r"[\W_]+", " ", unicodedata.normalize("NFC", bare)).split())


@cache
def _vocabulary() -> _Vocabulary:
    raw = tomllib.loads(_VOCABULARY.read_text(encoding="utf-8"))
    kinds: dict[str, dict[str, Any]] = raw["kinds"]

    def named(part: str) -> dict[str, str]:
        return {_plain(word): kind for kind, words in kinds.items() for word in words.get(part, ())}

    phrases, joined, beside = named("words"), named("joined"), frozenset(raw["beside"]["words"].split())
    carriers = raw["beside"]["carriers"]
    words = {w for phrase in (*phrases, *carriers) for w in phrase.split()}
    return _Vocabulary(
        phrases=phrases,
        joined=joined,
        whole=named("whole"),
        beside=beside,
        words=beside | words,
        phrase=re.compile(rf"(?<= )(?:{_longest_first(phrases)})(?= )"),
        carrier=re.compile(rf"(?<= )(?:{_longest_first(carriers)})(?= )"),
        script=re.compile(_longest_first(joined)),
        script_beside=re.compile(_longest_first(_plain(w) for w in raw["beside"]["joined"])),
    )


def _longest_first(words: Iterable[str]) -> str:
    ordered: Sequence[str] = sorted(words, key=len, reverse=True)
    return "|".join(map(re.escape, ordered))
