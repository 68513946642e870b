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
        description="`csv`, `jsonl` (also JSON documents), `parquet` or `xlsx` (any workbook); needed if the "
        "file's suffix is another",
    )
    channel: str | None = Field(default=None, description="the channel of all rows; by default the name")
    timezone: str = Field(
        default="UTC",
        description="the time zone of times without an offset; times in the hour that summer time skips are "
        "refused (`skipped_hour`), and in a repeated hour the earlier time is taken and reported",
    )
    timestamp_format: str | None = Field(default=None, description="one strptime format for `timestamp`")
    date_order: Literal["day_first", "month_first"] | None = Field(
        default=None, description="`day_first` or `month_first`, for dates such as 03/04/2025"
    )
    decimal: Literal[".", ","] | None = Field(
        default=None, description="`.` or `,`, for numbers such as 1.000"
    )
    country: str | None = Field(
        default=None, description="the shop's country, as in `US`; decides both if all values are ambiguous"
    )
    separator: str | None = Field(
        default=None,
        description="one character; by default detected, or named by a first line such as `sep=;`",
    )
    encoding: str = Field(
        default="utf-8",
        description="`utf-8` (UTF-16 is recognised), `cp1252`, `gb18030` …; invalid bytes refuse only their "
        "own row",
    )
    quoting: Quoting | None = Field(
        default=None,
        description='`doubled` (a quote in a quoted field is `""`), `backslash` (`\\"`) or `none` (quotes '
        "are text); by default detected",
    )
    header_line: int | None = Field(
        default=None,
        description="the line of the header, from 1; by default detected: lines before it are left out and "
        "reported",
    )
    records: str | None = Field(
        default=None,
        description="the list in a JSON document that holds the rows, as `data.orders`; not needed for a "
        "document that is a list or has only one",
    )
    sheet: str | None = Field(
        default=None,
        description="the sheet of a workbook; needed if several have the mapped columns",
    )
    cancelled_order_prefix: str | None = Field(
        default=None, description="order numbers with this prefix are returns"
    )
    anonymous: bool = Field(default=False, description="the rows have no ids, on purpose")
    derived: bool = Field(default=False, description="reads facts from another source's file; refuses no row")
    keep_duplicates: bool = Field(
        default=False, description="identical rows are separate sales, not duplicates"
    )
    orders_repeat: bool = Field(
        default=False,
        description="a log may contain an order several times, as after a page reload: each line (order, "
        "item, quantity, price) of a customer counts once, and later ones are refused as `repeated_order`",
    )
    amount_after_discount: bool = Field(default=False, description="`amount` is the total after `discount`")
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
        "and `text`; for other fields, the first that is filled is used",
    )
    values: dict[str, dict[str, str]] = Field(default={}, description="by field: their value = ours")
    constants: dict[str, Constant] = Field(
        default={},
        description="our field = one value for all rows; with a column too, the value of blank cells",
    )
    scale: dict[str, float] = Field(default={}, description="our field = a factor, such as 0.01 for cents")
    lookup: list[LookupTable] = Field(default=[], description="fields from another file, see below")


class CurrencyTable(_Table):
    """The main currency, and the exchange rates to it."""

    main: str | None = Field(default=None, description="the currency that rates are in")
    rates: dict[str, Rate] = Field(default={}, description="another currency = its value in the main one")


class GoodsTable(_Table):
    """Which items are goods, and which are postage, fees and the like."""

    goods: list[Name] = Field(default=[], description="ids of items that are goods; `*` matches any text")
    not_goods: list[Name] = Field(default=[], description="ids of items that are not goods")


class IdentityTable(_Table):
    """How accounts become customers."""

    method: Literal["likeness", "keys", "off"] = Field(
        default="likeness",
        description="`likeness` compares all fields; `keys` joins only by equal numbers, mails and phones; "
        "`off` joins only pairs from `shopsight identity same`",
    )
    min_precision: Share | None = Field(
        default=None,
        description="the least expected precision of the chosen threshold, by default .99",
    )
    threshold: Share | None = Field(
        default=None, description="a fixed match probability from which accounts are joined"
    )
    trust: list[str] = Field(
        default=[], description="sources, the most trusted first, for facts whose rule is `most_trusted`"
    )
    survivorship: dict[str, str] = Field(
        default={}, description="a table: for each fact, the rule that chooses among several values"
    )


class SourcesFile(_Table):
    """A sources file: which raw file is what, and which of its columns means which of our fields."""

    format_version: Literal[1] = Field(description="1")
    source: list[SourceTable] = Field(default=[], description="the sources, one [[source]] each")
    currency: CurrencyTable = Field(
        default_factory=CurrencyTable, description="the main currency and the rates to it"
    )
    goods: GoodsTable = Field(
        default_factory=GoodsTable, description="which items are goods and which are not"
    )
    identity: IdentityTable = Field(
        default_factory=IdentityTable, description="how accounts become customers"
    )
    consent_default: dict[Purpose, bool] = Field(
        default={},
        description="by purpose, whether customers without a statement consent; by default true",
    )
