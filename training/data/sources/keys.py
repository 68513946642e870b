"""The keys of a sources file: their types, defaults and meanings; docs/sources.md is rendered from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

FORMAT_VERSION = 1

Kind = Literal[
    "events", "orders", "customers", "items", "reviews", "messages", "labels", "answers", "exposures",
    "consents",
]  # fmt: skip
Format = Literal["csv", "jsonl", "parquet", "xlsx"]
Quoting = Literal["doubled", "backslash", "none"]
QUOTINGS: tuple[str, ...] = get_args(Quoting)
Status = Literal["sale", "no sale", "returned"]
STATUSES: tuple[str, ...] = get_args(Status)
Purpose = Literal["personalisation", "profiling", "language", "marketing"]
PURPOSES: tuple[str, ...] = get_args(Purpose)


def _as_columns(value: Any) -> Any:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list) or not columns or not all(isinstance(c, str) for c in columns):
        raise ValueError("expected a text or a list of texts")
    return columns


def _as_text(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Columns = Annotated[
    list[str],
    BeforeValidator(_as_columns),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]
Constant = Annotated[
    str, BeforeValidator(_as_text), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LookupTable(_Table):
    """Fields from another file."""

    path: Name = Field(description="the other file, relative to the sources file")
    on: Name = Field(description="our field, of this file, that names the row of the other one")
    key: Name = Field(description="the column of the other file that `on` is compared with")
    columns: dict[str, str] = Field(description="our field = the column of the other file")
    encoding: str = Field(default="utf-8", description="the encoding of the other file")


class SourceTable(_Table):
    """One source: which raw files it is, how they are read, and which column means which field."""

    name: Name = Field(description="the id space: ids under one name denote the same kind of id")
    kind: Kind = Field(description="one of the kinds below")
    path: Name = Field(description="a file, a folder or a pattern, relative to the sources file")
    format: Format | None = Field(
        default=None,
        description="`csv`, `jsonl` (also JSON documents), `parquet` or `xlsx` (any workbook), where the "
        "suffix "
        "does not tell",
    )
    channel: str | None = Field(default=None, description="the channel of all rows; else the name")
    timezone: str = Field(
        default="UTC",
        description="of times without an offset; an hour that summer time skips is refused "
        "(`skipped_hour`), of an "
        "hour that comes twice the earlier is taken, and the report says how often",
    )
    timestamp_format: str | None = Field(default=None, description="one strptime format for `timestamp`")
    date_order: Literal["day_first", "month_first"] | None = Field(
        default=None, description="`day_first` or `month_first`, for dates such as 03/04/2025"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="`.` or `,`, for numbers such as 1.000"
    )
    country: str | None = Field(
        default=None, description="the shop's, as in `US`: decides both where no value does"
    )
    separator: str | None = Field(
        default=None, description="one character; else found out, or named by a first line such as `sep=;`"
    )
    encoding: str = Field(
        default="utf-8",
        description="`utf-8` (UTF-16 is recognised), `cp1252`, `gb18030` …; bytes that do not fit refuse "
        "their row "
        "alone",
    )
    quoting: Quoting | None = Field(
        default=None,
        description='`doubled` (a quote in a quoted field is `""`), `backslash` (`\\"`) or `none` (quotes '
        "are "
        "text); else found out",
    )
    header_line: int | None = Field(
        default=None,
        description="the line of the header, from 1; else found out: notes before it are left out, and the "
        "report "
        "says so",
    )
    records: str | None = Field(
        default=None,
        description="the list in a JSON document that holds the rows, as `data.orders`; a document that is "
        "a list, "
        "or has one list, needs none",
    )
    sheet: str | None = Field(
        default=None,
        description="which sheet of a workbook; needed where more than one has the mapped columns",
    )
    cancelled_order_prefix: str | None = Field(
        default=None, description="order numbers that begin so are returns"
    )
    anonymous: bool = Field(default=False, description="rows without any id are meant")
    derived: bool = Field(
        default=False, description="facts taken out of another source's file; refuses no row"
    )
    keep_duplicates: bool = Field(
        default=False, description="rows that are the same byte for byte were each sold"
    )
    orders_repeat: bool = Field(
        default=False,
        description="a log may tell an order in several events, as of a page that is loaded again: each "
        "line (order, "
        "item, quantity, price) of a customer counts once, later ones are set aside as `repeated_order`",
    )
    amount_after_discount: bool = Field(
        default=False, description="`amount` is what is left after `discount`"
    )
    carry_down: list[str] = Field(
        default=[],
        description="fields that only the first line of an order has: `order_id`, `source_id`, `timestamp`, "
        "`channel`, `session_id`, `currency`, `status`, `cancelled_at`, `returned_at`",
    )
    required: list[str] = Field(
        default=[], description="fields without which a row is refused, beyond those of its kind"
    )
    columns: dict[str, Columns] = Field(
        default={},
        description="our field = their column; a list of columns is joined for times, `full_name`, `street` "
        "and "
        "`text`, and the first that is filled for all others",
    )
    values: dict[str, dict[str, str]] = Field(default={}, description="by field: their value = ours")
    constants: dict[str, Constant] = Field(
        default={}, description="our field = one value for all rows; beside a column, the value of blanks"
    )
    scale: dict[str, float] = Field(default={}, description="our field = a factor, as 0.01 for cents")
    lookup: list[LookupTable] = Field(default=[], description="fields that another file has, see below")


class CurrencyTable(_Table):
    """The main currency, and what others are worth in it."""

    main: str | None = Field(default=None, description="the currency that rates are in")
    rates: dict[str, Rate] = Field(
        default={}, description="another currency = how many of the main one it is"
    )


class GoodsTable(_Table):
    """Which items are goods, and which are postage, fees and the like."""

    goods: list[Name] = Field(default=[], description="ids of items that are goods; `*` stands for anything")
    not_goods: list[Name] = Field(default=[], description="ids of items that are none")


class IdentityTable(_Table):
    """How accounts become customers."""

    method: Literal["likeness", "keys", "off"] = Field(
        default="likeness",
        description="`likeness` reads all fields; `keys` joins by equal numbers, mails and phones alone; "
        "`off` joins "
        "nothing but what people said in `shopsight identity same`",
    )
    min_precision: Share | None = Field(
        default=None,
        description="the share of right joins that the chosen threshold keeps to, by default .99",
    )
    threshold: Share | None = Field(
        default=None, description="the least probability that joins two accounts, in place of a chosen one"
    )
    trust: list[str] = Field(
        default=[], description="sources, the most trusted first, for facts whose rule is `most_trusted`"
    )
    survivorship: dict[str, str] = Field(
        default={}, description="a table: which of a customer's facts survives, by fact"
    )


class SourcesFile(_Table):
    """A sources file: which raw file is what, and which of its columns means which of our fields."""

    format_version: Literal[1] = Field(description="1")
    source: list[SourceTable] = Field(default=[], description="the sources, one [[source]] each")
    currency: CurrencyTable = Field(
        default_factory=CurrencyTable, description="the main currency and the rates to it"
    )
    goods: GoodsTable = Field(
        default_factory=GoodsTable, description="which items are goods and which are none"
    )
    identity: IdentityTable = Field(
        default_factory=IdentityTable, description="how accounts become customers"
    )
    consent_default: dict[Purpose, bool] = Field(
        default={},
        description="by purpose, whether it is allowed for customers who said nothing; true where not named",
    )
