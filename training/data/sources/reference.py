"""The reference of the sources file: its JSON schema, and the tables of docs/sources.md.

`python -m shopsight.training.data.sources.reference DOCS` writes both anew into a folder of docs.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shopsight.training.data.sources.keys import (
    CurrencyTable,
    GoodsTable,
    IdentityTable,
    LookupTable,
    SourcesFile,
    SourceTable,
)
from shopsight.training.data.sources.kinds import FIELDS, KINDS, MEANINGS, REQUIRED

PAGE_FILE, SCHEMA_FILE = "sources.md", "sources.schema.json"
_TABLES: dict[str, type[BaseModel]] = {
    "source": SourceTable,
    "lookup": LookupTable,
    "currency": CurrencyTable,
    "goods": GoodsTable,
    "identity": IdentityTable,
}


def schema() -> dict[str, Any]:
    """The JSON schema of a sources file, with the fields that each kind has."""
    found = SourcesFile.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    found["$defs"]["SourceTable"]["allOf"] = [_of_kind(kind) for kind in FIELDS]
    return found


def schema_text() -> str:
    """The JSON schema as its file has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def page(text: str) -> str:
    """A page with the part between each pair of markers rendered anew: the keys of a table, kinds, fields."""
    parts = {name: _keys(table) for name, table in _TABLES.items()} | {"kinds": _kinds(), "fields": _fields()}
    for name, rendered in parts.items():
        begin, end = f"<!-- {name}: rendered -->\n", f"<!-- {name}: end -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, r=begin + rendered + end: r, text, flags=re.S)  # type: ignore[misc]
    return text


def _of_kind(kind: str) -> dict[str, Any]:
    parts = ("columns", "values", "constants", "scale")
    names = {"propertyNames": {"enum": list(FIELDS[kind])}}
    return {
        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
        "then": {"properties": dict.fromkeys(parts, names)},
        "description": f"{kind}: {KINDS[kind]}; every row needs {', '.join(REQUIRED[kind])}",
    }


def _keys(table: type[BaseModel]) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in table.model_fields.items():
        default = "needed" if field.is_required() else _shown(field.default)
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    if default is None or default in ([], {}):
        return ""
    return f"`{json.dumps(default)}`"


def _kinds() -> str:
    rows = ["| kind | rows | fields |", "|---|---|---|"]
    for kind, fields in FIELDS.items():
        told = ", ".join(f"**`{name}`**" if name in REQUIRED[kind] else f"`{name}`" for name in fields)
        rows.append(f"| `{kind}` | {KINDS[kind]} | {told} |")
    return "\n".join(rows) + "\n"


def _fields() -> str:
    rows = [
        "| field | meaning |",
        "|---|---|",
        *(f"| `{n}` | {meaning} |" for n, meaning in MEANINGS.items()),
    ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    path = folder / PAGE_FILE
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")
