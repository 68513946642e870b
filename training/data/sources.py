"""The sources file: which raw file is what, and which of its columns means which of ours."""

from __future__ import annotations

import difflib
import re
import tomllib
import zoneinfo
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from training.data.goods import StatedGoods
from training.data.money import Currencies
from training.data.tables import PURPOSES

FORMAT_VERSION = 1

# What each kind of source may carry, by our names.
FIELDS: dict[str, tuple[str, ...]] = {
    kind: tuple(names.split())
    for kind, names in {
        "events": "source_id item_id event channel timestamp session_id order_id line_id quantity price"
        " amount currency discount order_discount status order_paid order_postage cancelled_at refunded"
        " returned_at rating request_id",
        "orders": "source_id order_id line_id item_id event channel timestamp session_id quantity price"
        " amount currency discount order_discount status order_paid order_postage cancelled_at refunded"
        " returned_at request_id",
        "customers": "source_id also_id given_name family_name full_name email phone loyalty_number"
        " birth_date street city postcode country state gov_id registered_at",
        "items": "item_id title category_path brand price currency cost attributes image_path available_from"
        " available_to goods",
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
FORMATS = ("csv", "jsonl", "parquet", "xlsx")
# How CSV writes quotes inside a quoted field: "", \", or no field is quoted and quotes are text.
QUOTINGS = ("doubled", "backslash", "none")
DATE_ORDERS = ("day_first", "month_first")
DECIMALS = (".", ",")
# What a status column may say of an order line; "returned" was sold and has come back.
STATUSES = ("sale", "no sale", "returned")
# Fields of the whole order, which some exports write on the first line of each order alone.
ORDER_FIELDS = (
    "order_id", "source_id", "timestamp", "channel", "session_id", "currency", "status", "cancelled_at",
    "returned_at",
)  # fmt: skip
_MORE = "\n"  # what divides the name of a field and the number of its further columns
_SOURCE_KEYS = (
    "name", "kind", "path", "format", "channel", "timezone", "timestamp_format", "date_order", "decimal",
    "country", "separator", "encoding", "quoting", "header_line", "records", "sheet",
    "cancelled_order_prefix", "anonymous", "derived", "keep_duplicates", "amount_after_discount",
    "orders_repeat", "carry_down", "required", "columns", "values", "constants", "scale", "lookup",
)  # fmt: skip


CURRENCY_SIGNS = {
    "€": "EUR", "EURO": "EUR", "EUROS": "EUR", "£": "GBP", "US$": "USD", "C$": "CAD", "CA$": "CAD",
    "A$": "AUD", "AU$": "AUD", "NZ$": "NZD", "HK$": "HKD", "NT$": "TWD", "R$": "BRL", "₹": "INR", "₽": "RUB",
    "₺": "TRY", "₩": "KRW", "₪": "ILS", "₫": "VND", "₴": "UAH", "ZŁ": "PLN", "KČ": "CZK", "RMB": "CNY",
    "元": "CNY", "人民币": "CNY", "円": "JPY",
}  # fmt: skip


class IngestError(ValueError):
    """Raw data or its sources file cannot be read; the message says what, where, and the remedy."""


@dataclass(frozen=True)
class Lookup:
    """Fields that another file has: its `columns` of the row whose column `key` is our field `on`."""

    path: str
    on: str
    key: str
    columns: dict[str, str]
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Source:
    """One entry of the sources file.

    `name` is the id space: ids of one name denote the same kind of id. `columns`, `values`, `constants` and
    `scale` are by our field. A `derived` source takes facts (titles, countries) out of another source's
    file: it folds rows by their key and refuses none, because the source that owns the file does.
    `anonymous` says that rows without any id are meant. `required` names fields that this source promises in
    every row, beyond what its kind needs: a row without one is refused. `quoting` (one of QUOTINGS) and
    `header_line` (the line of the header, from 1) are found in each CSV file where they are not given.
    `records` names the list in a JSON document that holds the rows ("data.orders"), `sheet` one of a
    workbook.
    `keep_duplicates` keeps order lines or events that are the same byte for byte, because a till that has no
    line numbers writes two for two. `orders_repeat` says that a log may hold an order in several events, as
    of a page that is loaded again: each of its lines counts once.
    `date_order` and `decimal` say how 03/04/2025 and 1.000 are read; without them the values of all files
    decide, then `country` (ISO 3166, of the shop), then the convention of a known exporter
    (training/data/conventions.py). `amount` is the total of a line before its `discount`, or after it where
    `amount_after_discount` says so. `carry_down` names fields that only the first line of an order has.
    A field of several columns, as date and time, has the further ones in `columns` under `more_columns`:
    times, names, streets and texts are joined, of other fields the first column that is filled is taken.
    What `lookup` brings from other files is in `columns` as well; `own` is the source without it.
    """

    name: str
    kind: str
    path: str
    base: Path
    format: str | None = None
    channel: str | None = None
    timezone: str = "UTC"
    timestamp_format: str | None = None
    date_order: str | None = None
    decimal: str | None = None
    country: str | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    quoting: str | None = None
    header_line: int | None = None
    records: str | None = None
    sheet: str | None = None
    cancelled_order_prefix: str | None = None
    anonymous: bool = False
    derived: bool = False
    keep_duplicates: bool = False
    orders_repeat: bool = False
    amount_after_discount: bool = False
    carry_down: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    lookup: tuple[Lookup, ...] = ()
    overlaid: tuple[str, ...] = ()  # fields of an own column that a lookup puts something in place of

    @property
    def own(self) -> Source:
        """The source with the columns of its own files alone."""
        found = {name for lookup in self.lookup for name in lookup.columns if name not in self.overlaid}
        return replace(self, columns={n: c for n, c in self.columns.items() if n not in found})

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

    @property
    def fields(self) -> tuple[str, ...]:
        """Our fields that have a column, each once."""
        return tuple(name for name in self.columns if _MORE not in name)

    def more_columns(self, name: str) -> list[str]:
        """The keys in `columns` of the second and further columns of a field."""
        return [key for key in self.columns if key.startswith(name + _MORE)]


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


def load_currencies(path: Path) -> Currencies:
    """Return the main currency and the rates to it: `[currency]` of a sources file; raises IngestError."""
    raw = _document(path).get("currency", {})
    if not isinstance(raw, dict):
        raise IngestError(f"{path}: currency is {raw!r}, expected a table with main and rates")
    _known(raw, ("main", "rates"), f"{path}: currency")
    main, rates = raw.get("main"), raw.get("rates", {})
    if (main is not None or rates) and not (isinstance(main, str) and main.strip()):
        raise IngestError(f"{path}: currency.main is {main!r}, expected the currency that rates are in")
    if not isinstance(rates, dict):
        raise IngestError(f"{path}: currency.rates is {rates!r}, expected a table, as in USD = 0.92")
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise IngestError(
                f"{path}: currency.rates.{name} is {rate!r}, expected how many {main} one is, above 0"
            )
    return Currencies(
        currency_code(main) if main else None, {currency_code(n): float(r) for n, r in rates.items()}
    )


def load_goods(path: Path) -> StatedGoods:
    """Return what `[goods]` says of items; raises IngestError naming the key."""
    raw = _document(path).get("goods", {})
    if not isinstance(raw, dict):
        raise IngestError(f"{path}: goods is {raw!r}, expected a table with goods and not_goods")
    _known(raw, ("goods", "not_goods"), f"{path}: goods")
    for key, ids in raw.items():
        if not isinstance(ids, list) or not all(isinstance(item, str) and item.strip() for item in ids):
            raise IngestError(f'{path}: goods.{key} is {ids!r}, expected a list of item ids, as in ["POST"]')
    stated = StatedGoods(*(tuple(raw.get(key, ())) for key in ("goods", "not_goods")))
    for item in stated.goods:
        if item in stated.not_goods:
            raise IngestError(f'{path}: goods.goods and goods.not_goods both name "{item}"; take one out')
    return stated


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
    _known(raw, ("format_version", "consent_default", "currency", "goods", "identity", "source"), f"{path}")
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
    lists = {name: tuple(raw.get(name, ())) for name in ("required", "carry_down")}
    lookups = _lookups(raw.get("lookup", []), FIELDS[raw["kind"]], where)
    columns = _flat_columns(raw)
    found = {name: column for lookup in lookups for name, column in lookup.columns.items()}
    both = {**found, **columns}
    overlaid = tuple(name for name in found if name in columns)
    source = Source(
        base=path.parent,
        **{**raw, **lists, "columns": both, "lookup": lookups, "overlaid": overlaid},
    )
    _check_fields(source, where)
    _check_meaning(source, where)
    if "currency" in source.constants:
        source.constants["currency"] = currency_code(source.constants["currency"])
    return source


def _lookups(raws: Any, allowed: tuple[str, ...], where: str) -> tuple[Lookup, ...]:
    lookups = []
    for number, raw in enumerate(raws, start=1):
        here = f"{where}: lookup {number}"
        if not isinstance(raw, dict):
            raise IngestError(f"{here} is not a table; write [[source.lookup]]")
        _known(raw, ("path", "on", "key", "columns", "encoding"), here)
        for key in ("path", "on", "key"):
            if not isinstance(raw.get(key), str) or not raw[key]:
                raise IngestError(
                    f"{here}: {key} is missing or not a text; it needs path, on, key and columns"
                )
        columns = raw.get("columns")
        if not isinstance(columns, dict) or not all(isinstance(c, str) for c in columns.values()):
            raise IngestError(f"{here}: columns is {columns!r}, expected a table of fields and columns")
        _known({**columns, raw["on"]: ""}, allowed, here, what="field")
        lookups.append(Lookup(**raw))
    return tuple(lookups)


def _flat_columns(raw: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, column in raw.get("columns", {}).items():
        first, *others = [column] if isinstance(column, str) else column
        flat |= {name: first, **{f"{name}{_MORE}{i}": other for i, other in enumerate(others, start=2)}}
    return flat


def _check_types(raw: dict[str, Any], where: str) -> None:
    expected: dict[str, type] = {
        "anonymous": bool,
        "derived": bool,
        "keep_duplicates": bool,
        "orders_repeat": bool,
        "amount_after_discount": bool,
        "required": list,
        "header_line": int,
        "carry_down": list,
        "lookup": list,
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
            if key == "columns" and isinstance(value, list):
                if value and all(isinstance(column, str) for column in value):
                    continue
                raise IngestError(f"{where}: columns.{name} is {value!r}, expected a text or a list of texts")
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
        names = source.fields if part == "columns" else getattr(source, part)
        _known(dict.fromkeys(names), allowed, f"{where}: {part}", what=f"field of {source.kind}")
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
    if source.orders_repeat and (source.derived or not {"order_id", "item_id"} <= set(source.columns)):
        raise IngestError(f"{where}: orders_repeat needs columns for order_id and item_id; map them")
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


def _check_meaning(source: Source, where: str) -> None:
    """What the keys about dates, amounts and orders say must be possible, and belong to the kind."""
    if source.date_order is not None:
        _one_of(source.date_order, DATE_ORDERS, f"{where}: date_order")
    if source.decimal is not None:
        _one_of(source.decimal, DECIMALS, f"{where}: decimal")
    if source.country is not None and not re.fullmatch(r"[A-Z]{2}", source.country):
        raise IngestError(f'{where}: country is "{source.country}", expected two capital letters, as in "US"')
    carried = tuple(name for name in ORDER_FIELDS if name in FIELDS[source.kind])
    _known(dict.fromkeys(source.carry_down), carried, f"{where}: carry_down", what="field of a whole order")
    for name in source.carry_down:
        if name not in source.columns:
            raise IngestError(f"{where}: carry_down names {name}, which has no column; map it or take it out")
    if source.carry_down and "order_id" not in source.columns:
        raise IngestError(f"{where}: carry_down works within an order; map order_id")
    words = source.values.get("status", {})
    for value, ours in words.items():
        _one_of(ours, STATUSES, f'{where}: values.status."{value}"')
    if "status" in source.columns and not words:
        raise IngestError(
            f"{where}: status has no meaning yet; say under [source.values.status] which of its values are "
            f"{', '.join(STATUSES)}"
        )


def currency_code(text: str) -> str:
    """Return a currency's ISO code where its sign or spelling says it; $ and ¥ are of several currencies."""
    plain = text.strip().upper()
    return CURRENCY_SIGNS.get(plain, plain)


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
