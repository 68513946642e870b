"""Detects the kind and the columns of a raw file, by names in several languages and by values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from shopsight.training.data.cleaning.amounts import bare_numbers
from shopsight.training.data.describing.aliases import KEY_OF, KIND_WORDS, SIGNS
from shopsight.training.data.describing.column_names import Names, names_of
from shopsight.training.data.describing.foreign_names import FOREIGN_NAMES
from shopsight.training.data.describing.joins import joined_with
from shopsight.training.data.describing.line_values import lines_understood
from shopsight.training.data.describing.proposals import Proposal
from shopsight.training.data.describing.series import Series
from shopsight.training.data.errors import IngestError
from shopsight.training.data.reading.readers import read_chunks
from shopsight.training.data.sources.kinds import FIELDS, REQUIRED
from shopsight.training.data.sources.source import Source

SAMPLE_ROWS = 20_000
_LINES = ("orders", "events")
# Columns that name the item of an order line where none has its number.
_ITEM_NAMES = (
    "reference", "referencia", "riferimento", "title", "productname", "itemname", "lineitemname", "product",
    "item", "articlename", "description", *FOREIGN_NAMES["title"].split(),
)  # fmt: skip
_CLOCKS = (
    "time", "ordertime", "timeofday", "uhrzeit", "zeit", "bestellzeit", "heure", "heurecommande", "hora",
    "horapedido", "ora", "tijd", "godzina", "tid", "时间", "時刻",
)  # fmt: skip
_CLOCK = r"(?i)^\d{1,2}[:.]\d{2}(?:[:.]\d{2}(?:\.\d+)?)?\s*(?:[ap]\.?m\.?)?$"
# Fields that no list of customers has.
_NOT_OF_PEOPLE = (
    "order_id", "item_id", "quantity", "price", "amount", "discount", "currency", "order_total", "line_id",
    "subject", "text", "rating",
)  # fmt: skip
_FEW, _MANY = 2, 4  # understood columns, and others, of a file that may be no list of customers
_ONE_ORDER = {"item_id": "order", "quantity": "1"}  # the line of an order whose items are not known


def recognise(series: Series, others: Sequence[Series] = ()) -> Proposal:
    """Recognise files, with the help of those that lie beside them.

    Raises IngestError that names the nearest kind and what is missing for it.
    """
    names = names_of(series.header)
    are_returns = _lists_returns(names)
    joined = joined_with(series, names, others, are_returns=are_returns)
    needed: tuple[str, ...]
    constants: dict[str, str] = {}
    questions: list[str] = []
    if are_returns:
        kind, needed = "events", ("order_id", "item_id", "timestamp")
        constants = {"event": "return"} | ({} if names.found["quantity"] else {"quantity": "1"})
    elif joined is not None:
        kind, needed = "orders", ("order_id", "item_id")
        constants = {} if names.found.get("quantity") else {"quantity": "1"}
    elif _lines_with_a_gap(names, constants, questions):
        kind, needed = ("events" if "event" in constants else "orders"), ("item_id", "timestamp")
    elif _lists_orders_alone(names):
        kind, needed, constants = "orders", ("order_id", "timestamp"), dict(_ONE_ORDER)
        names.found["amount"] = names.found["order_total"] or names.found["amount"]
        names.found["order_id"] = names.found["order_id"] or [names.plain["id"]]
    else:
        kind, needed = _kind(series, names)
    if kind == "messages" and not names.found.get("text"):
        names.found["text"] = names.found["ticket_text"]
    columns = _columns(kind, needed, names)
    if kind == "customers" and "email" not in columns and columns.get("source_id") in names.found["email"]:
        columns["email"] = columns["source_id"]
    _with_the_clock(columns, names, series)
    for name in constants:
        columns.pop(name, None)
    told = {*columns, *constants, *(joined.columns if joined else ())}
    missing = [name for name in REQUIRED[kind] if name not in told]
    if missing:
        raise IngestError(
            f"{series.name}: looks like {kind}, but nothing was recognised as {', '.join(missing)}; "
            f"its columns are {', '.join(series.header)}"
        )
    sample = samples_of(series, Source("", kind, "", series.path, columns=columns))
    if "rating" in columns and not bare_numbers(sample["rating"]).is_not_null().any():
        columns.pop("rating")
    unused = [column for column in series.header if column not in columns.values()]
    proposal = Proposal(series, kind, id_space(series), columns, unused, sample, constants, joined=joined)
    if kind == "customers" and (doubt := _doubted(names, columns, unused)):
        proposal = replace(proposal, is_open=True)
        questions.append(doubt)
    proposal.questions.extend(questions)
    return lines_understood(proposal) if kind in _LINES else proposal


def _doubted(names: Names, columns: dict[str, str], unused: list[str]) -> str | None:
    """A question where a file that names people may list something else: orders, tickets."""
    other = [names.found[field][0] for field in _NOT_OF_PEOPLE if names.found.get(field)]
    few = len({column for name, column in columns.items() if name != "source_id"}) <= _FEW
    if not other and not (few and len(unused) >= _MANY):
        return None
    told = other or unused
    also = ", ".join(map(repr, told[:4]))
    return (
        f"is this a list of customers? it names people, but it also has {also}; if its rows are orders, "
        "events or messages, change the kind of the source and map these columns"
    )


def id_space(series: Series) -> str:
    """The name of a source: the words of its files' names without those that say what or when they are."""
    each = [
        [w for w in re.split(r"[\W_]+", file.path.name.lower().split(".")[0]) if w] for file in series.files
    ]
    words = [w for w in each[0] if all(w in others for others in each)]
    return "_".join(w for w in words if not (KIND_WORDS.fullmatch(w) or w.isdigit())) or "shop"


def without_rows(series: Series) -> IngestError:
    """Return the error for files that have a header alone."""
    return IngestError(f"{series.name}: a header but no rows; export it again, or leave it out")


def samples_of(series: Series, source: Source) -> pl.DataFrame:
    """The first rows of files as text, by the columns of a source; raises IngestError for no rows."""
    parts: list[pl.DataFrame] = []
    for file in series.files:
        if sum(part.height for part in parts) >= SAMPLE_ROWS:
            break
        chunk = next(iter(read_chunks(replace(file.probe, columns=source.columns), file.path)), None)
        if chunk is not None and chunk.num_read:
            parts.append(chunk.rows.head(SAMPLE_ROWS))
    if not parts:
        raise without_rows(series)
    return pl.concat(parts).head(SAMPLE_ROWS)


def _lists_returns(names: Names) -> bool:
    """Whether rows are lines of orders that came back; their time and amount are those of the return then."""
    found = names.found
    if found["timestamp"] or not (found["return_time"] and found["order_id"] and found["item_id"]):
        return False
    found["timestamp"] = found["return_time"]
    found["amount"], found["refunded"] = found["amount"] or found["refunded"], []
    return True


def _lines_with_a_gap(names: Names, constants: dict[str, str], questions: list[str]) -> bool:
    """Whether rows are order lines but for one thing that others stand in for; what is asked then."""
    found, have = names.found, names.have
    money = have & {"price", "amount"}
    if (
        not have >= {"timestamp"}
        or not (money or "quantity" in have)
        or have & {"event", "text", "request_id"}
    ):
        return False
    if "item_id" not in have and {"order_id", "quantity"} <= have and "order_total" not in have:
        named = [names.plain[name] for name in _ITEM_NAMES if name in names.plain]
        found["item_id"] = [column for column in named if column not in found["order_id"]]
    if "item_id" in have and "order_id" in have and "quantity" in have:
        return False
    if not found["item_id"]:
        return False
    if "order_id" not in have:
        if "source_id" not in have or not money:
            return False
        constants["event"] = "purchase"
        questions.append("no column names the order, so each row is a purchase by itself: is that right?")
    if "quantity" not in have:
        constants["quantity"] = "1"
        questions.append("no column names a quantity, so each line is one piece: is that right?")
    return True


def _with_the_clock(columns: dict[str, str], names: Names, series: Series) -> None:
    """Give a time whose date and clock stand in two columns both."""
    if "timestamp" not in columns or not any(name in names.plain for name in _CLOCKS):
        return
    dates, clocks = names.found["timestamp"], [c for n, c in names.plain.items() if n in _CLOCKS]
    sampled = {column: column for column in (*dates, *clocks)}
    rows = samples_of(series, Source("", "events", "", series.path, columns=sampled))
    is_clock = {
        column: bool(texts.len() and texts.str.contains(_CLOCK).all())
        for column in sampled
        if (texts := rows[column].drop_nulls().str.strip_chars().replace("", None).drop_nulls()).len()
    }
    clock = next((column for column, so in is_clock.items() if so), None)
    dated = [column for column in dates if not is_clock.get(column)]
    if clock is None or not dated:
        return
    columns["timestamp"] = dated[0]
    if not rows[dated[0]].str.contains(r"\d:\d").any():
        columns["timestamp\n2"] = clock


def _lists_orders_alone(names: Names) -> bool:
    """Whether rows are orders with their totals, and nothing names an item."""
    have = names.have
    is_order = "order_id" in have or ("id" in names.plain and "source_id" in have)
    has_total = "order_total" in have or {"order_id", "amount"} <= have
    return is_order and has_total and "timestamp" in have and not have & {"item_id", "event"}


def _kind(series: Series, names: Names) -> tuple[str, tuple[str, ...]]:
    nearest: tuple[float, str, list[str]] | None = None
    for kind, needed, excluded in SIGNS:
        have = names.have
        key = KEY_OF.get(kind)
        if "id" in names.plain and key and not names.found.get(key):
            have.add(key)
        if set(needed) <= have and not any(name in have for name in excluded):
            return kind, needed
        lacking = [name for name in needed if name not in have]
        likeness = 1 - len(lacking) / len(needed)
        if likeness > (nearest[0] if nearest else 0) and lacking:
            nearest = likeness, kind, lacking
    told = f"; nearest to {nearest[1]}, of which {', '.join(nearest[2])} is missing" if nearest else ""
    if nearest and nearest[1] == "orders" and nearest[2] == ["timestamp"]:
        told += (
            "; name the file that says when each order was placed as well: both are joined by the order id"
        )
    raise IngestError(f"{series.name}: not recognised; its columns are {', '.join(series.header)}{told}")


def _columns(kind: str, needed: tuple[str, ...], names: Names) -> dict[str, str]:
    columns: dict[str, str] = {}
    for name in sorted(FIELDS[kind], key=lambda n: n not in (*REQUIRED[kind], *needed, "source_id")):
        free = [column for column in names.found.get(name, []) if column not in columns.values()]
        if not free and name == KEY_OF.get(kind) and "id" in names.plain:
            free = [names.plain["id"]]
        if free and name != "channel":
            columns[name] = free[0]
    return columns
