"""What a raw file is: its kind and its columns, by their names in several languages and by their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from training.data.aliases import KEY_OF, KIND_WORDS, SIGNS, status_of
from training.data.amounts import bare_numbers, count_votes, read_numbers
from training.data.column_names import Names, currency_in, names_of
from training.data.joins import Joined, joined_with
from training.data.readers import read_chunks
from training.data.series import Series
from training.data.sources import FIELDS, REQUIRED, IngestError, Source
from training.data.times import parse_times

SAMPLE_ROWS = 20_000
_LINES = ("orders", "events")
_FROM_THE_FIRST_LINE = ("source_id", "timestamp", "currency", "status", "cancelled_at")
_STEEP, _MOST = 0.3, 0.6  # of the slope of log money over log pieces; of the items that agree
_CLOSE = 0.02  # relative difference of two amounts that are the same but for rounding
_ONE_ORDER = {"item_id": "order", "quantity": "1"}  # the line of an order whose items are not known


@dataclass(frozen=True)
class Proposal:
    """What the files of a series seem to be.

    columns: our field to a column; constants: our field to a value; values: our field to what its raw values
    mean; flags: further lines of its entry in the sources file; joined: fields that another file has;
    questions: what only the shop can answer.
    """

    series: Series
    kind: str
    name: str
    columns: dict[str, str]
    unused: list[str]
    sample: pl.DataFrame
    constants: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    joined: Joined | None = None
    questions: list[str] = field(default_factory=list)


def recognise(series: Series, others: Sequence[Series] = ()) -> Proposal:
    """Recognise files, with the help of those that lie beside them.

    Raises IngestError that names the nearest kind and what is missing for it.
    """
    names = names_of(series.header)
    joined = joined_with(series, names, others)
    needed: tuple[str, ...]
    constants: dict[str, str] = {}
    if joined is not None:
        kind, needed = "orders", ("order_id", "item_id")
        constants = {} if names.found.get("quantity") else {"quantity": "1"}
    elif _lists_orders_alone(names):
        kind, needed, constants = "orders", ("order_id", "timestamp"), dict(_ONE_ORDER)
        names.found["amount"] = names.found["order_total"] or names.found["amount"]
        names.found["order_id"] = names.found["order_id"] or [names.plain["id"]]
    else:
        kind, needed = _kind(series, names)
    if kind == "messages" and not names.found.get("text"):
        names.found["text"] = names.found["ticket_text"]
    columns = _columns(kind, needed, names)
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
    unused = [column for column in series.header if column not in columns.values()]
    proposal = Proposal(series, kind, id_space(series), columns, unused, sample, constants, joined=joined)
    return _lines_understood(proposal) if kind in _LINES else proposal


def id_space(series: Series) -> str:
    """The name of a source: the words of its files' names without those that say what or when they are."""
    each = [
        [w for w in re.split(r"[\W_]+", file.path.name.lower().split(".")[0]) if w] for file in series.files
    ]
    words = [w for w in each[0] if all(w in others for others in each)]
    return "_".join(w for w in words if not (KIND_WORDS.fullmatch(w) or w.isdigit())) or "shop"


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
        raise IngestError(f"{series.name}: a header but no rows; export it again")
    return pl.concat(parts).head(SAMPLE_ROWS)


def times_understood(texts: pl.Series) -> float:
    """The share of written times that can be read."""
    share = parse_times(texts.drop_nulls()).is_not_null().mean() if texts.drop_nulls().len() else 1.0
    return float(share) if isinstance(share, float) else 1.0


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


def _lines_understood(proposal: Proposal) -> Proposal:
    """Order lines and events by their values: unit price or total, statuses, first lines, duplicates."""
    columns, sample, flags = dict(proposal.columns), proposal.sample, list(proposal.flags)
    questions, values = list(proposal.questions), dict(proposal.values)
    _keep_price_or_amount(columns, sample, questions)
    if "status" in columns:
        words = _statuses(sample["status"])
        if words:
            values["status"] = words
            unknown = sorted(v for v in _distinct(sample["status"]) if v not in words)
            questions += [f"what does the status {value!r} mean?" for value in unknown]
        else:
            columns.pop("status")
    if "cancelled_at" in columns and times_understood(sample["cancelled_at"]) < 1:
        columns.pop("cancelled_at")
    carried = _carried(columns, sample)
    if carried:
        flags.append(f"carry_down = {carried}".replace("'", '"'))
    if "line_id" not in columns and proposal.kind in _LINES:
        again = sample.height - sample.select("hi", "lo").n_unique()
        if again:
            flags.append("# keep_duplicates = true  # see the question")
            questions.append(
                f"{again:,} of {sample.height:,} rows are the same as another: were they sold again? then "
                "keep_duplicates = true keeps them, else each counts once"
            )
    if (again := _repeated_lines(sample)) > 0:
        flags.append("# orders_repeat = true  # see the question")
        questions.append(
            f"{again:,} of {sample.height:,} rows tell a line of an order once more, at a later time: is it "
            "the same order, as of a page that was loaded again? then orders_repeat = true counts it once"
        )
    if proposal.constants.get("item_id"):
        questions.append(
            'no column names an item, so each order is one line of the item "order": its money is right, but '
            "nothing can be recommended; export the order lines for that"
        )
    joined = proposal.joined
    if joined is not None and "status" in joined.columns:
        words = _statuses(joined.sample["status"])
        if words:
            values["status"] = words
            unknown = sorted(v for v in _distinct(joined.sample["status"]) if v not in words)
            questions += [f"what does the status {value!r} mean?" for value in unknown]
        else:
            joined.columns.pop("status")
    constants = dict(proposal.constants)
    if {"price", "amount"} & set(columns) and not (
        "currency" in columns or (joined is not None and "currency" in joined.columns)
    ):
        _currency_asked(columns, sample, constants, questions)
    unused = [c for c in (*proposal.columns.values(), *proposal.unused) if c not in columns.values()]
    return replace(
        proposal, columns=columns, constants=constants, unused=list(dict.fromkeys(unused)), values=values,
        flags=flags, questions=questions,
    )  # fmt: skip


def _currency_asked(
    columns: dict[str, str], sample: pl.DataFrame, constants: dict[str, str], questions: list[str]
) -> None:
    """The one currency that the amounts or the names of their columns say; else it is asked."""
    money = [name for name in ("price", "amount") if name in columns]
    said = sorted({code for name in money for code in currency_in(columns[name], sample[name])})
    if len(said) == 1 and len(said[0]) == 3:
        constants["currency"] = said[0]
    elif len(said) > 1:
        questions.append(
            f"amounts are written in {' and '.join(said)}, and no column names a currency: give each "
            "a file and a source of its own, or their amounts are added up as one"
        )
    else:
        questions.append('no column names a currency: which is it? write currency = "…" under constants')


def _repeated_lines(sample: pl.DataFrame) -> int:
    """How many rows have the order, item, quantity and price of an earlier row, at another time."""
    if not {"order_id", "item_id", "timestamp"} <= set(sample.columns):
        return 0
    line = ["source_id", "order_id", "line_id", "item_id", "event", "quantity", "price", "amount"]
    key = [name for name in line if name in sample.columns]
    told = [pl.col(name).str.strip_chars() != "" for name in ("order_id", "timestamp")]
    lines = sample.filter(told).group_by(key)
    return int((lines.agg(pl.col("timestamp").n_unique())["timestamp"] - 1).sum())


def _numbers(columns: dict[str, str], sample: pl.DataFrame) -> dict[str, pl.Series]:
    """The written numbers of a sample, read as most of them say."""
    names = [name for name in ("quantity", "price", "amount", "discount") if name in columns]
    bare = {name: bare_numbers(sample[name]) for name in names}
    votes = [count_votes(texts) for texts in bare.values()]
    decimal = "," if sum(v.comma for v in votes) > sum(v.point for v in votes) else "."
    return {name: read_numbers(texts, decimal) for name, texts in bare.items()}


def _keep_price_or_amount(columns: dict[str, str], sample: pl.DataFrame, questions: list[str]) -> None:
    """Keep the one that is what its name says; a single column is tried by its items' quantities."""
    if "quantity" not in columns or not {"price", "amount"} & set(columns):
        return
    numbers = _numbers(columns, sample)
    pieces = numbers["quantity"].abs()
    if {"price", "amount"} <= set(columns):
        price, amount = numbers["price"], numbers["amount"]
        many = (pieces > 1) & (price != 0)
        same = ((price * pieces - amount).abs() <= _CLOSE * amount.abs()).filter(many).mean()
        # A price that already is the total, or one that the total does not follow from.
        columns.pop("price" if isinstance(same, float) and same < 0.5 else "amount")
        return
    name = "price" if "price" in columns else "amount"
    kind = _unit_or_total(sample["item_id"] if "item_id" in columns else None, pieces, numbers[name])
    if kind is not None and kind != name:
        columns[kind] = columns.pop(name)
    if kind is None and (pieces > 1).any():
        meant = "of one piece" if name == "price" else "of the whole line"
        questions.append(
            f'"{columns[name]}" is read as {name}, {meant}; if it is not, call it '
            f"{'amount' if name == 'price' else 'price'}"
        )


def _unit_or_total(items: pl.Series | None, pieces: pl.Series, money: pl.Series) -> str | None:
    """Whether an item's money stays the same ("price") or grows with its pieces ("amount")."""
    if items is None:
        return None
    frame = pl.DataFrame({"item": items, "q": pieces, "m": money}).filter(
        (pl.col("q") > 0) & (pl.col("m") > 0)
    )
    few = frame.sort("q").group_by("item", maintain_order=True).agg(
        pl.col("q").first().alias("q0"), pl.col("m").first().alias("m0"),
        pl.col("q").last().alias("q1"), pl.col("m").last().alias("m1"),
    ).filter(pl.col("q1") > pl.col("q0"))  # fmt: skip
    if few.is_empty():
        return None
    slope = (pl.col("m1") / pl.col("m0")).log() / (pl.col("q1") / pl.col("q0")).log()
    shares = few.select((slope.abs() < _STEEP).mean().alias("same"), ((slope - 1).abs() < _STEEP).mean())
    same, grows = shares.row(0)
    return "price" if same > _MOST else "amount" if grows > _MOST else None


def _distinct(texts: pl.Series) -> list[str]:
    return [str(value) for value in texts.drop_nulls().str.strip_chars().unique().to_list() if value]


def _statuses(texts: pl.Series) -> dict[str, str]:
    """What the values of a status column mean, if at least half of them are known words for it."""
    distinct = _distinct(texts)
    known = {value: status for value in sorted(distinct) if (status := status_of(value))}
    return known if len(known) * 2 >= len(distinct) > 0 and len(distinct) <= 60 else {}


def _share(which: pl.Series) -> float:
    return int(which.sum()) / max(which.len(), 1)


def _carried(columns: dict[str, str], sample: pl.DataFrame) -> list[str]:
    """Fields that are filled on the first lines of orders and blank on most of their further lines."""
    if "order_id" not in columns:
        return []
    further = sample.select((pl.col("order_id") == pl.col("order_id").shift()).fill_null(False)).to_series()
    if not further.any():
        return []
    carried = []
    for name in (n for n in _FROM_THE_FIRST_LINE if n in columns):
        blank = sample[name].is_null() | (sample[name].str.strip_chars() == "")
        if _share(blank.filter(further)) > 0.5 and _share(blank.filter(~further)) < 0.5:
            carried.append(name)
    return carried
