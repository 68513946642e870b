"""What is wrong in a sources file, said with the entry, the key, what was expected and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shopsight.training.data.sources.keys import (
    PURPOSES,
    CurrencyTable,
    GoodsTable,
    IdentityTable,
    LookupTable,
    SourcesFile,
    SourceTable,
)

_EXPECTED = {
    "string_type": "a text", "bool_type": "true or false", "list_type": "a list", "dict_type": "a table",
    "model_type": "a table", "model_attributes_type": "a table", "float_type": "a number",
    "int_type": "a whole number", "string_too_short": "a text that is not empty",
}  # fmt: skip
_ROOT: type[BaseModel] = SourcesFile
_A_TEXT = "expected a text"
_TABLES: Mapping[str, type[BaseModel]] = {
    "currency": CurrencyTable, "goods": GoodsTable, "identity": IdentityTable, "lookup": LookupTable,
    "source": SourceTable,
}  # fmt: skip


def first_fault(error: ValidationError, raw: Mapping[str, Any], path: Path) -> str:
    """The first fault of a sources file, in words; unknown keys go first, they often explain others."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    where, keys, table = _place(fault["loc"], raw, path)
    return f"{where}: {_said(fault, '.'.join(keys), table)}"


def one_of(value: str, allowed: Collection[str], where: str) -> str:
    """What is said of a word that is none of the allowed ones."""
    return f'{where} is "{value}"{nearest(value, allowed)}; it is one of {", ".join(allowed)}'


def nearest(word: str, allowed: Any) -> str:
    """Return ' (did you mean "…"?)' for the closest allowed word, or nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return (
        f' (did you mean "{close[0]}"?)'
        if close
        else f"; known: {', '.join(sorted(allowed))}" * (len(allowed) < 40)
    )


def _place(
    loc: tuple[int | str, ...], raw: Mapping[str, Any], path: Path
) -> tuple[str, list[str], type[BaseModel]]:
    """Where a fault is: the entry in words, the keys within it, and the table that they are of."""
    where, table = str(path), _ROOT
    keys: list[str] = []
    here: Any = raw
    for part in loc:
        if isinstance(part, int):
            here = here[part] if isinstance(here, list) else None
            if keys and keys[-1] in ("source", "lookup"):
                where += f": {keys.pop()} {part + 1}"
                where += f' ("{here["name"]}")' if isinstance(here, dict) and here.get("name") else ""
                keys = []
            continue
        here = here.get(part) if isinstance(here, dict) else None
        table = _TABLES.get(part, table) if not keys else table
        keys.append(part)
    return where, keys, table


def _said(fault: ErrorDetails, key: str, table: type[BaseModel]) -> str:
    kind, value = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        above, _, name = key.rpartition(".")
        return (f"{above}: " if above else "") + f'unknown key "{name}"{nearest(name, table.model_fields)}'
    if key.endswith(".[key]"):
        above, name, _ = key.rsplit(".", 2)
        return f'{above}: unknown purpose "{name}"{nearest(name, PURPOSES)}'
    if kind == "missing":
        needed = [name for name, field in table.model_fields.items() if field.is_required()]
        return f"{key} is missing; it is needed, as are {', '.join(n for n in needed if n != key)}"
    if kind == "literal_error":
        allowed = [word.strip("' ") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return (
            one_of(value, allowed, key) if isinstance(value, str) else f"{key} is {value!r}, expected a text"
        )
    if kind in ("greater_than", "less_than", "finite_number") and table is IdentityTable:
        return f"{key} is {value!r}, expected a number between 0 and 1"
    if kind == "value_error":
        return f"{key} is {value!r}, {fault['ctx']['error']}"
    return (
        f"{key} is {value!r}, expected {_EXPECTED.get(kind) or fault['msg'].removeprefix('Input should be ')}"
    )
