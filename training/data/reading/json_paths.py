"""Values inside nested JSON: requester.email, items[].price, event_params[key=ga_session_id].value.int_value.

A column may name alternatives, of which the first with a value is used: "userId | anonymousId".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shopsight.training.data.errors import IngestError

_STEP = re.compile(r"(?P<name>[^.\[\]]+)(?:\[(?:(?P<key>[^\]=]+)=(?P<value>[^\]]*))?\])?(?:\.|$)")
_MOST_DEPTH = 5
_ABSENT = object()


@dataclass(frozen=True)
class _Step:
    """One key; `chosen` picks the element of a list whose key has a value, `each` stands for all elements."""

    name: str
    chosen: tuple[str, str] | None
    each: bool


@dataclass(frozen=True)
class Column:
    """A column of nested JSON: its alternatives, each a way from the top of an object to a value."""

    text: str
    ways: tuple[tuple[_Step, ...], ...]

    @property
    def lists(self) -> set[tuple[str, ...]]:
        """The lists of which this column wants every element."""
        found = set()
        for way in self.ways:
            for depth, step in enumerate(way, start=1):
                if step.each:
                    found.add(tuple(step.name for step in way[:depth]))
        return found


def parse_column(text: str, keys: Sequence[str] = ()) -> Column:
    """Parse a path; a text that is one of the top-level `keys` is that key. Raises IngestError."""
    if text in keys:
        return Column(text, ((_Step(text, None, False),),))
    ways = []
    for way in text.split("|"):
        name, steps, at = way.strip(), [], 0
        while at < len(name):
            match = _STEP.match(name, at)
            if match is None or match.end() == at:
                raise IngestError(
                    f'column "{text}" is no path; write a.b, a[].b (all elements) or a[key=x].b (one of them)'
                )
            chosen = (match["key"].strip(), match["value"]) if match["key"] else None
            each = "[]" in match[0]
            steps.append(_Step(match["name"], chosen, each))
            at = match.end()
        if sum(step.each for step in steps) > 1:
            raise IngestError(f'column "{text}" goes through two lists; a row can be one element of one list')
        ways.append(tuple(steps))
    return Column(text, tuple(ways))


class Extractor:
    """Rows of texts out of objects: one an object, or one an element of the list that the columns name."""

    def __init__(self, columns: Sequence[Column]) -> None:
        """Raises IngestError for columns that go through different lists."""
        self.columns = list(columns)
        lists = {one for column in columns for one in column.lists}
        if len(lists) > 1:
            named = " and ".join(sorted(".".join(one) + "[]" for one in lists))
            raise IngestError(f"columns go through {named}; a source takes the elements of one list")
        self.list = next(iter(lists), None)
        self._seen: set[str] = set()
        self._keys: set[str] = set()

    def rows(self, value: dict[str, Any]) -> Iterator[list[str | None]]:
        """Yield the rows of one object; an object whose list is empty gives one row without an element."""
        self._keys.update(value)
        for index in range(max(1, self._num_elements(value))):
            yield [self._text(column, value, index) for column in self.columns]

    def missing(self) -> list[str]:
        """Columns that begin with a key that no object had."""
        return [c.text for c in self.columns if not any(way[0].name in self._keys for way in c.ways)]

    def never_found(self) -> list[str]:
        """Columns that no object had; exports leave out what has no value, so this need be no mistake."""
        return [column.text for column in self.columns if column.text not in self._seen]

    def _num_elements(self, value: Any) -> int:
        for name in self.list or ():
            value = value.get(name) if isinstance(value, dict) else None
        return len(value) if isinstance(value, list) else 0

    def _text(self, column: Column, value: Any, index: int) -> str | None:
        for way in column.ways:
            found = _follow(value, way, index)
            if found is not _ABSENT:
                self._seen.add(column.text)
                if text := _as_text(found):
                    return text
        return None


def paths_of(value: dict[str, Any]) -> list[str]:
    """Every column that an object offers: its keys, then the paths to what lies deeper."""
    return [*value, *(path for path in _deeper(value, "", 0) if path not in value)]


def _deeper(value: dict[str, Any], before: str, depth: int) -> Iterator[str]:
    for name, inner in value.items():
        here = f"{before}{name}"
        if depth >= _MOST_DEPTH or re.search(r"[.\[\]|]", name):
            continue
        if isinstance(inner, dict) and inner:
            yield from _deeper(inner, f"{here}.", depth + 1)
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            if set(inner[0]) >= {"key", "value"}:
                for one in inner:
                    if isinstance(one, dict) and isinstance(one.get("key"), str):
                        rest = {key: deep for key, deep in one.items() if key != "key"}
                        yield from _deeper(rest, f"{here}[key={one['key']}].", depth + 1)
            elif "[]" not in here:
                merged = {key: deep for one in inner if isinstance(one, dict) for key, deep in one.items()}
                yield from _deeper(merged, f"{here}[].", depth + 1)
        elif depth:
            yield here


def _follow(value: Any, way: tuple[_Step, ...], index: int) -> Any:
    for step in way:
        if not isinstance(value, dict) or step.name not in value:
            return _ABSENT
        value = value[step.name]
        if step.each:
            if not isinstance(value, list) or index >= len(value):
                return _ABSENT
            value = value[index]
        elif step.chosen is not None:
            key, wanted = step.chosen
            elements = value if isinstance(value, list) else []
            fits = (one for one in elements if isinstance(one, dict) and _as_text(one.get(key)) == wanted)
            if (value := next(fits, None)) is None:
                return _ABSENT
    return value


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
