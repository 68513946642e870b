"""Finds names, mail addresses and phone numbers in free text, ignoring case, accents and punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

NAME, MAIL, PHONE = "name", "mail", "phone"
CONTACT_FIELDS = ("given_name", "family_name", "full_name", "email", "phone")

# Han characters one by one, because Chinese has no spaces; elsewhere runs of letters and digits.
_HAN = "\u2e80-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_HAN}]|[^\\W_{_HAN}]+")
_DIGITS = re.compile(r"\+?\(?\d(?:[ .()/\-\u00a0]{0,3}\d){6,14}")
_PHONE_DIGITS = 9  # with or without the country's and the trunk prefix
_LETTERS_APART = str.maketrans({"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"})
# A value that more other accounts have is a placeholder or a company's, and does not identify a person.
_MOST_SHARED = 5


@dataclass(frozen=True)
class Phrase:
    """A phrase that identifies a person: consecutive words, or the last digits of a phone number."""

    kind: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Hit:
    """The position of a phrase in a text."""

    kind: str
    start: int
    stop: int


def phrases_of(contacts: pl.DataFrame, theirs: pl.Series) -> tuple[Phrase, ...]:
    """Return the phrases that name the people of some rows of CONTACT_FIELDS, sorted.

    theirs: Boolean, one a row. A single given or family name names too many people and is left out, and so
    is a mail address or phone that more than five of the other accounts have.
    """
    others = contacts.filter(~theirs)
    usual = {
        name: set(others[name].value_counts().filter(pl.col("count") > _MOST_SHARED)[name].drop_nulls())
        for name in ("email", "phone")
    }
    found: set[Phrase] = set()
    for row in contacts.filter(theirs).select(CONTACT_FIELDS).unique().iter_rows(named=True):
        found.update(Phrase(NAME, words) for words in _names(row) if _is_telling(words))
        for name, kind in (("email", MAIL), ("phone", PHONE)):
            if row[name] and row[name] not in usual[name]:
                found.update(Phrase(kind, words) for words in _spellings(kind, row[name]))
    return tuple(sorted(found, key=lambda phrase: (phrase.kind, phrase.words)))


class Finder:
    """Finds phrases in texts. `spell` brings a word of a text to the form that the phrases have it in."""

    def __init__(self, phrases: Iterable[Phrase], spell: Callable[[str], str] = str) -> None:
        self._spell = lru_cache(maxsize=1 << 18)(spell)
        self._by_first: dict[str, list[Phrase]] = {}
        self._phones: set[str] = set()
        for phrase in phrases:
            if phrase.kind == PHONE:
                self._phones.add(phrase.words[0])
            else:
                self._by_first.setdefault(phrase.words[0], []).append(phrase)
        for same in self._by_first.values():
            same.sort(key=lambda phrase: -len(phrase.words))

    def find(self, text: str) -> list[Hit]:
        """Return every hit, in the order of the text; where phrases overlap, the first and longest."""
        hits = [*self._sequences(text), *self._numbers(text)]
        kept: list[Hit] = []
        for hit in sorted(hits, key=lambda hit: (hit.start, -hit.stop)):
            if not kept or hit.start >= kept[-1].stop:
                kept.append(hit)
        return kept

    def masked(self, text: str) -> str:
        """Return the text with every hit replaced by its kind in brackets, as in [name]."""
        for hit in reversed(self.find(text)):
            text = f"{text[: hit.start]}[{hit.kind}]{text[hit.stop :]}"
        return text

    def _sequences(self, text: str) -> Iterator[Hit]:
        if not self._by_first:
            return
        spans = [match.span() for match in _WORD.finditer(text)]
        words = [self._spell(folded(text[start:stop])) for start, stop in spans]
        for at, word in enumerate(words):
            for phrase in self._by_first.get(word, ()):
                end = at + len(phrase.words)
                if tuple(words[at:end]) == phrase.words:
                    yield Hit(phrase.kind, spans[at][0], spans[end - 1][1])
                    break

    def _numbers(self, text: str) -> Iterator[Hit]:
        if not self._phones:
            return
        for match in _DIGITS.finditer(text):
            if self._spell(_last_digits(match.group())) in self._phones:
                yield Hit(PHONE, *match.span())


@lru_cache(maxsize=1 << 16)
def folded(word: str) -> str:
    """Return a word without case, accents and width."""
    plain = unicodedata.normalize("NFKD", word.lower().translate(_LETTERS_APART))
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _names(row: dict[str, str | None]) -> Iterator[tuple[str, ...]]:
    """The orders in which the parts of a name may stand, with and without middle names."""
    given, family = _words(row["given_name"]), _words(row["family_name"])
    if given and family:
        yield given + family
        yield family + given
        yield given[:1] + family
    full = _words(row["full_name"])
    if full:
        yield full
        yield full[1:] + full[:1]
        yield full[-1:] + full[:-1]
        yield full[:1] + full[-1:]


def _is_telling(words: tuple[str, ...]) -> bool:
    return len(words) > 1 and sum(map(len, words)) > (1 if re.match(f"[{_HAN}]", words[0]) else 3)


def _spellings(kind: str, value: str) -> Iterator[tuple[str, ...]]:
    if kind == PHONE:
        digits = _last_digits(value)
        if len(digits) >= 7:
            yield (digits,)
    elif "@" in value:
        yield _words(value)
        untagged = re.sub(r"\+[^@]*@", "@", value)
        yield _words(untagged)


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(folded(word) for word in _WORD.findall(text or ""))


def _last_digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))[-_PHONE_DIGITS:]
