"""One source: which raw files it is, how they are read, and which of their columns means which of ours."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from shopsight.training.data.fields import MONEY_FIELDS
from shopsight.training.data.sources.kinds import REQUIRED

MORE = "\n"  # what divides the name of a field and the number of its further columns


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
    """One entry of the sources file, whose keys training/data/sources/keys.py describes.

    `columns`, `values`, `constants` and `scale` are by our field. A field of several columns, as date and
    time, has the further ones in `columns` under `more_columns`. What `lookup` brings from other files is in
    `columns` as well; `own` is the source without it. A `derived` source folds rows by their key and refuses
    none, because the source that owns the file does.
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
    def tells_currency(self) -> bool:
        """Whether rows have a currency beside them: of a column, or of amounts that carry their sign."""
        return not {"currency", *MONEY_FIELDS}.isdisjoint(self.columns)

    @property
    def fields(self) -> tuple[str, ...]:
        """Our fields that have a column, each once."""
        return tuple(name for name in self.columns if MORE not in name)

    def more_columns(self, name: str) -> list[str]:
        """The keys in `columns` of the second and further columns of a field."""
        return [key for key in self.columns if key.startswith(name + MORE)]
