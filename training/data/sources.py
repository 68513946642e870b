"""The sources file: which raw file is what, and which of its columns means which of ours."""

from __future__ import annotations

import difflib
import tomllib
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.tables import PURPOSES

FORMAT_VERSION = 1

# What each kind of source may carry, by our names.
FIELDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "events": "source_id item_id event channel timestamp session_id order_id line_id quantity price"
        " currency discount rating request_id",
        "orders": "source_id order_id line_id item_id event channel timestamp session_id quantity price"
        " currency discount request_id",
        "customers": "source_id given_name family_name full_name email phone loyalty_number birth_date"
        " street city postcode country state gov_id registered_at",
        "items": "item_id title category_path brand price cost attributes image_path available_from"
        " available_to",
        "reviews": "source_id message_id item_id rating text timestamp channel language intent sentiment"
        " split",
        "messages": "source_id message_id item_id text timestamp channel language intent sentiment split",
        "labels": "message_id task label split",
        "answers": "answer_id question answer language intent",
        "exposures": "request_id source_id item_id rank experiment arm propensity timestamp channel",
        "consents": "source_id purpose allowed timestamp",
    }.items()
}

# What a row cannot be without. Events of a search or a message need no item (cleaning.py).
REQUIRED: dict[str, tuple[str, ...]] = {
    "events": ("event", "timestamp"),
    "orders": ("order_id", "item_id", "quantity", "timestamp"),
    "customers": ("source_id",),
    "items": ("item_id",),
    "reviews": ("text",),
    "messages": ("text",),
    "labels": ("message_id", "task", "label"),
    "answers": ("answer",),
    "exposures": ("request_id", "item_id"),
    "consents": ("source_id", "purpose", "allowed", "timestamp"),
}

# Rows of these kinds are worth little without a customer, so leaving the id out must be said aloud.
PROMISE_IDS = ("events", "orders", "customers", "exposures", "consents")
FORMATS = ("csv", "jsonl", "parquet")
# How CSV writes quotes inside a quoted field: "", \", or no field is quoted and quotes are text.
QUOTINGS = ("doubled", "backslash", "none")
_SOURCE_KEYS = (
    "name", "kind", "path", "format", "channel", "timezone", "timestamp_format", "separator", "encoding",
    "quoting", "header_line", "cancelled_order_prefix", "anonymous", "derived", "keep_duplicates", "required",
    "columns", "values", "constants", "scale",
)  # fmt: skip


class IngestError(ValueError):
    """Raw data or its sources file cannot be read; the message says what, where, and the remedy."""


@dataclass(frozen=True)
class Source:
    """One entry of the sources file.

    `name` is the id space: ids of one name denote the same kind of id. `columns`, `values`, `constants` and
    `scale` are by our field. A `derived` source takes facts (titles, countries) out of another source's
    file: it folds rows by their key and refuses none, because the source that owns the file does.
    `anonymous` says that rows without any id are meant. `required` names fields that this source promises in
    every row, beyond what its kind needs: a row without one is refused. `quoting` (one of QUOTINGS) and
    `header_line` (the line of the header, from 1) are found in each CSV file where they are not given.
    `keep_duplicates` keeps order lines or events that are the same byte for byte, because a till that has no
    line numbers writes two for two.
    """

    name: str
    kind: str
    path: str
    base: Path
    format: str | None = None
    channel: str | None = None
    timezone: str = "UTC"
    timestamp_format: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    quoting: str | None = None
    header_line: int | None = None
    cancelled_order_prefix: str | None = None
    anonymous: bool = False
    derived: bool = False
    keep_duplicates: bool = False
    required: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How messages call this source."""
        return f'source "{self.name}" ({self.kind}, {self.path})'

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without which a row is refused; an id column that is mapped must be filled."""
        keys = [name for name in ("message_id", "answer_id") if name in self.columns]
        return tuple(dict.fromkeys((*REQUIRED[self.kind], *keys, *self.required)))

    def has(self, name: str) -> bool:
        """Whether rows of this source carry our field `name`."""
        return name in self.columns or name in self.constants


def load_sources(path: Path) -> list[Source]:
    """Parse and check a sources file (TOML); raises IngestError naming the entry, the key and the remedy."""
    entries = _document(path).get("source")
    if not isinstance(entries, list) or not entries:
        raise IngestError(f"{path}: names no source; add at least one [[source]] with name, kind and path")
    return [_parse(entry, path, number) for number, entry in enumerate(entries, start=1)]


def consent_defaults(path: Path) -> dict[str, bool]:
    """Return what holds, by purpose, for customers who said nothing: `[consent_default]` of a sources file.

    A purpose that is not named is allowed. Raises IngestError naming the key.
    """
    defaults = _document(path).get("consent_default", {})
    if not isinstance(defaults, dict):
        raise IngestError(
            f"{path}: consent_default is {defaults!r}, expected a table: purpose = true or false"
        )
    _known(defaults, PURPOSES, f"{path}: consent_default", what="purpose")
    for purpose, allowed in defaults.items():
        if not isinstance(allowed, bool):
            raise IngestError(f"{path}: consent_default.{purpose} is {allowed!r}, expected true or false")
    return defaults


def _document(path: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise IngestError(
            f"{path}: no such sources file; 'shopsight validate FILES --out {path}' drafts one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IngestError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror})") from error
    _known(raw, ("format_version", "consent_default", "identity", "source"), f"{path}")
    if raw.get("format_version") != FORMAT_VERSION:
        raise IngestError(
            f"{path}: format_version is {raw.get('format_version')}, this release reads {FORMAT_VERSION}; "
            f"write 'format_version = {FORMAT_VERSION}' at the top"
        )
    return raw


def _parse(raw: Any, path: Path, number: int) -> Source:
    where = f"{path}: source {number}"
    if not isinstance(raw, dict):
        raise IngestError(f"{where} is not a table; write [[source]]")
    if raw.get("name"):
        where += f' ("{raw["name"]}")'
    _known(raw, _SOURCE_KEYS, where)
    for key in ("name", "kind", "path"):
        if not isinstance(raw.get(key), str) or not raw[key]:
            raise IngestError(
                f"{where}: {key} is missing or not a text; every source needs name, kind and path"
            )
    _one_of(raw["kind"], tuple(FIELDS), f"{where}: kind")
    _check_types(raw, where)
    if raw.get("format") is not None:
        _one_of(raw["format"], FORMATS, f"{where}: format")
    if raw.get("quoting") is not None:
        _one_of(raw["quoting"], QUOTINGS, f"{where}: quoting")
    source = Source(base=path.parent, **{**raw, "required": tuple(raw.get("required", ()))})
    _check_fields(source, where)
    return source


def _check_types(raw: dict[str, Any], where: str) -> None:
    expected: dict[str, type] = {
        "anonymous": bool,
        "derived": bool,
        "keep_duplicates": bool,
        "required": list,
        "header_line": int,
    }
    expected |= dict.fromkeys(("columns", "values", "constants", "scale"), dict)
    for key, value in raw.items():
        wanted = expected.get(key, str)
        if not isinstance(value, wanted):
            raise IngestError(f"{where}: {key} is {value!r}, expected {_TYPE_NAMES[wanted]}")
    for key, wanted in (("columns", str), ("constants", str), ("scale", float), ("values", dict)):
        for name, value in raw.get(key, {}).items():
            if key == "scale" and isinstance(value, int):
                raw[key][name] = value = float(value)
            if key == "constants" and isinstance(value, int | float):
                raw[key][name] = value = str(value)
            if not isinstance(value, wanted):
                raise IngestError(f"{where}: {key}.{name} is {value!r}, expected {_TYPE_NAMES[wanted]}")
    for name, mapping in raw.get("values", {}).items():
        for value, ours in mapping.items():
            if not isinstance(ours, str):
                raise IngestError(f"{where}: values.{name}.{value} is {ours!r}, expected a text")


_TYPE_NAMES = {
    int: "a whole number", str: "a text", bool: "true or false", dict: "a table", list: "a list",
    float: "a number",
}  # fmt: skip


def _check_fields(source: Source, where: str) -> None:
    allowed = FIELDS[source.kind]
    for part in ("columns", "values", "constants", "scale"):
        _known(getattr(source, part), allowed, f"{where}: {part}", what=f"field of {source.kind}")
    _known(dict.fromkeys(source.required), allowed, f"{where}: required", what=f"field of {source.kind}")
    for name in (*REQUIRED[source.kind], *source.required):
        if not source.has(name):
            raise IngestError(
                f"{where}: no column for {name}, which {source.kind} need; "
                f"add {name} to its columns or constants"
            )
    if source.kind in PROMISE_IDS and not source.anonymous and not source.has("source_id"):
        raise IngestError(
            f"{where}: a channel without ids: no column for source_id; map it, or say anonymous = true"
        )
    if source.keep_duplicates and (source.derived or source.kind not in ("events", "orders")):
        raise IngestError(f"{where}: keep_duplicates is for events and orders; take it out")
    try:
        zoneinfo.ZoneInfo(source.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = nearest(source.timezone, zoneinfo.available_timezones())
        raise IngestError(f'{where}: timezone "{source.timezone}" is unknown{hint}') from error
    try:
        "".encode(source.encoding)
    except LookupError as error:
        raise IngestError(
            f'{where}: encoding "{source.encoding}" is unknown; utf-8, latin-1, gb18030 …'
        ) from error
    if source.separator is not None and len(source.separator.encode()) != 1:
        raise IngestError(f"{where}: separator is {source.separator!r}, expected one ASCII character")


def _known(raw: dict[str, Any], allowed: tuple[str, ...], where: str, what: str = "key") -> None:
    for key in raw:
        if key not in allowed:
            raise IngestError(f'{where}: unknown {what} "{key}"{nearest(key, allowed)}')


def _one_of(value: str, allowed: tuple[str, ...], where: str) -> None:
    if value not in allowed:
        raise IngestError(f'{where} is "{value}"{nearest(value, allowed)}; it is one of {", ".join(allowed)}')


def nearest(word: str, allowed: Any) -> str:
    """Return ' (did you mean "…"?)' for the closest allowed word, or nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return (
        f' (did you mean "{close[0]}"?)'
        if close
        else f"; known: {', '.join(sorted(allowed))}" * (len(allowed) < 40)
    )
