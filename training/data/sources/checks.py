"""What one entry of a sources file must fulfil beyond the types of its keys: its fields go together."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Collection, Iterable

from shopsight.training.data.errors import IngestError
from shopsight.training.data.sources.faults import nearest, one_of
from shopsight.training.data.sources.keys import STATUSES
from shopsight.training.data.sources.kinds import FIELDS, ORDER_FIELDS, PROMISE_IDS, REQUIRED
from shopsight.training.data.sources.source import Source


def check_source(source: Source, where: str) -> None:
    """Check one entry; raises IngestError that begins with `where` and names the key and the remedy."""
    _check_names(source, where)
    _check_fields(source, where)
    _check_reading(source, where)
    _check_orders(source, where)


def _check_names(source: Source, where: str) -> None:
    allowed = FIELDS[source.kind]
    for number, lookup in enumerate(source.lookup, start=1):
        _known((*lookup.columns, lookup.on), allowed, f"{where}: lookup {number}", "field")
    for part in ("columns", "values", "constants", "scale"):
        names = source.fields if part == "columns" else getattr(source, part)
        _known(names, allowed, f"{where}: {part}", f"field of {source.kind}")
    _known(source.required, allowed, f"{where}: required", f"field of {source.kind}")


def _check_fields(source: Source, where: str) -> None:
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
    if source.has("recipient_id") and not source.has("source_id"):
        raise IngestError(f"{where}: recipient_id needs a column for source_id, who paid; map it")
    if source.keep_duplicates and (source.derived or source.kind not in ("events", "orders")):
        raise IngestError(f"{where}: keep_duplicates is for events and orders; take it out")
    if source.orders_repeat and (source.derived or not {"order_id", "item_id"} <= set(source.columns)):
        raise IngestError(f"{where}: orders_repeat needs columns for order_id and item_id; map them")


def _check_reading(source: Source, where: str) -> None:
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
    if source.country is not None and not re.fullmatch(r"[A-Z]{2}", source.country):
        raise IngestError(f'{where}: country is "{source.country}", expected two capital letters, as in "US"')


def _check_orders(source: Source, where: str) -> None:
    carried = tuple(name for name in ORDER_FIELDS if name in FIELDS[source.kind])
    _known(source.carry_down, carried, f"{where}: carry_down", "field of a whole order")
    for name in source.carry_down:
        if name not in source.columns:
            raise IngestError(f"{where}: carry_down names {name}, which has no column; map it or take it out")
    if source.carry_down and "order_id" not in source.columns:
        raise IngestError(f"{where}: carry_down works within an order; map order_id")
    words = source.values.get("status", {})
    for value, ours in words.items():
        if ours not in STATUSES:
            raise IngestError(one_of(ours, STATUSES, f'{where}: values.status."{value}"'))
    if "status" in source.columns and not words:
        raise IngestError(
            f"{where}: status has no meaning yet; say under [source.values.status] which of its values are "
            f"{', '.join(STATUSES)}"
        )


def _known(names: Iterable[str], allowed: Collection[str], where: str, what: str) -> None:
    for name in names:
        if name not in allowed:
            raise IngestError(f'{where}: unknown {what} "{name}"{nearest(name, allowed)}')
