"""Metrics of a family as tables: an interval in one cell, and a list of records as a table of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

_INTERVAL = {"value", "low", "high"}


def tables(name: str, figures: Mapping[str, Any]) -> list[Table]:
    """Return one table of the single metrics, then one for each list of records.

    Figures within figures are named "outer: inner"; {value, low, high} reads "value (low to high)".
    """
    whole = Table(title=name, show_header=False)
    lists: list[Table] = []
    for key, value in _leaves(figures):
        if isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            lists.append(_records(f"{name}: {_words(key)}", value))
        else:
            whole.add_row(_words(key), shown(value))
    return [whole, *lists]


def shown(value: Any) -> str:
    """Return a metric as text: four significant digits, without a fraction from a thousand on."""
    if isinstance(value, Mapping):
        if set(value) >= _INTERVAL:
            return f"{shown(value['value'])} ({shown(value['low'])} to {shown(value['high'])})"
        return ", ".join(f"{_words(key)} {shown(inner)}" for key, inner in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(one) for one in value) or "-"
    return str(value)


def _leaves(figures: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in figures.items():
        name = f"{outer}: {key}" if outer else key
        if isinstance(value, Mapping) and value and not set(value) >= _INTERVAL:
            yield from _leaves(value, name)
        else:
            yield name, value


def _records(title: str, records: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title)
    names = list(dict.fromkeys(key for record in records for key in record))
    for name in names:
        table.add_column(_words(name), overflow="fold")
    for record in records:
        table.add_row(*(shown(record.get(name)) for name in names))
    return table


def _words(key: str) -> str:
    return key.replace("_", " ")
