"""Presets for exports of known systems, recognised by their headers.

Each file in `presets/` is a sources file with `signs`, the column names that identify the exporter. Columns
and statuses that a shop's export lacks are left out of the draft.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shopsight.training.data.cleaning.conventions import Convention
from shopsight.training.data.errors import IngestError

_FOLDER = Path(__file__).with_name("presets")


@dataclass(frozen=True)
class Other:
    """A file that lies beside: its path for the sources file, its header, and keys for how it is read."""

    path: str
    header: list[str]
    more: dict[str, str]


@dataclass(frozen=True)
class Preset:
    """The exporter's name and its entries, as a sources file has them but for path."""

    name: str
    entries: tuple[dict[str, Any], ...]
    partners: dict[str, list[str]]
    lists_payments: bool  # of orders, which another system has with their items

    def drafted(
        self,
        header: Iterable[str],
        path: str,
        more: dict[str, str],
        others: list[Other],
        *,
        sold_elsewhere: bool,
    ) -> list[str]:
        """Lines of a sources file for a file with this header; `more` are keys for every entry.

        others: the files beside it, among which its partners are looked for; raises IngestError for one that
        is not there. sold_elsewhere: another file has the purchases, so these are no sales.
        """
        spelled = {_key(column): column for column in header}
        lines = [f"# {self.name}"]
        for entry in self.entries:
            columns = {
                name: there if isinstance(column, list) and len(there) > 1 else there[0]
                for name, column in entry["columns"].items()
                if (there := [spelled[_key(c)] for c in _list(column) if _key(c) in spelled])
            }
            if sold_elsewhere and entry["kind"] == "events" and not entry.get("derived"):
                entry = entry | {"values": _without_sales(entry.get("values", {}))}
            lines += _entry(entry | {"path": path} | more, columns)
            lines += [line for raw in entry.get("lookup", []) for line in self._lookup(raw, others)]
        return lines

    def tells_returns(self, header: Iterable[str]) -> bool:
        """Whether a file with this header has the money that was given back of its orders."""
        have = {_key(column) for column in header}
        columns = [entry["columns"].get("refunded", []) for entry in self.entries]
        return any(_key(column) in have for named in columns for column in _list(named))

    def lacking(self, header: Iterable[str]) -> list[str]:
        """What the sales of a file with this header do not say: their currency, their status."""
        have = {_key(column) for column in header}
        sold = [e for e in self.entries if e["kind"] == "orders" and not e.get("derived")]
        brought = [name for e in sold for lookup in e.get("lookup", []) for name in lookup["columns"]]
        return [
            name
            for entry in sold
            for name in ("currency", "status")
            if (name == "currency" or name in entry["columns"])
            and name not in (*entry.get("constants", {}), *brought)
            and not have & {_key(column) for column in _list(entry["columns"].get(name, []))}
        ]

    def _lookup(self, raw: dict[str, Any], others: list[Other]) -> list[str]:
        signs = self.partners[raw["partner"]]
        for other in others:
            if {_key(sign) for sign in signs} <= {_key(column) for column in other.header}:
                have = {_key(column) for column in other.header}
                columns = {n: c for n, c in raw["columns"].items() if _key(c) in have}
                told = {"path": other.path, "on": raw["on"], "key": raw["key"]} | other.more
                return [
                    "[[source.lookup]]",
                    *(f"{key} = {_written(value)}" for key, value in told.items()),
                    "[source.lookup.columns]",
                    *(f"{name} = {_written(column)}" for name, column in columns.items()),
                ]
        raise IngestError(
            f"{self.name}: needs the file with the columns {', '.join(signs)} beside it; name both files"
        )


def preset_of(header: Iterable[str]) -> Preset | None:
    """The preset with the most signs that are all in a header, or None."""
    have = {_key(name) for name in header}
    fits = [(len(signs), preset) for signs, preset in _presets() if {_key(sign) for sign in signs} <= have]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def convention_of(header: Iterable[str]) -> Convention | None:
    """How the exporter that writes this header writes dates and numbers; None for one that is not known."""
    preset = preset_of(header)
    for entry in preset.entries if preset else ():
        if "date_order" in entry or "decimal" in entry:
            return Convention(entry.get("date_order") != "month_first", entry.get("decimal", "."))
    return None


@cache
def _presets() -> tuple[tuple[tuple[str, ...], Preset], ...]:
    raws = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(_FOLDER.glob("*.toml"))]
    return tuple((tuple(signs), _preset(raw)) for raw in raws for signs in raw["signs"])


def _preset(raw: dict[str, Any]) -> Preset:
    return Preset(
        raw["exporter"], tuple(raw["source"]), raw.get("partners", {}), raw.get("lists_payments", False)
    )


def _without_sales(values: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    events = {**values.get("event", {}), "purchase": "purchase", "return": "return"}
    sold = ("purchase", "return")
    return values | {"event": {k: "no sale" if v in sold else v for k, v in events.items()}}


def _key(column: str) -> str:
    return column.strip().strip("\ufeff").lower()


def _list(column: str | list[str]) -> list[str]:
    return [column] if isinstance(column, str) else column


def _entry(entry: dict[str, Any], columns: dict[str, Any]) -> list[str]:
    lines = ["", "[[source]]"]
    for key in ("name", "kind", "path"):
        lines.append(f"{key} = {_written(entry[key])}")
    if entry["kind"] in ("events", "orders") and "timezone" not in entry:
        lines.append('timezone = "UTC"  # of times without an offset: check')
    for key, value in entry.items():
        if key == "carry_down":
            value = [name for name in value if name in columns]
        if key in ("name", "kind", "path", "lookup") or isinstance(value, dict) or value == []:
            continue
        lines.append(f"{key} = {_written(value)}")
    lines += ["[source.columns]", *(f"{name} = {_written(column)}" for name, column in columns.items())]
    for field, words in entry.get("values", {}).items():
        if field in columns or any(field in lookup["columns"] for lookup in entry.get("lookup", [])):
            lines += [
                f"[source.values.{field}]",
                *(f"{_written(k)} = {_written(v)}" for k, v in words.items()),
            ]
    constants = entry.get("constants", {})
    if constants:
        lines += ["[source.constants]", *(f"{name} = {_written(v)}" for name, v in constants.items())]
    return lines


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
