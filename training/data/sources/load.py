"""The sources file: read, checked, and turned into sources.

Its keys are described in training/data/sources/keys.py, the fields of each kind in
training/data/sources/kinds.py.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shopsight.training.data.cleaning.goods import StatedGoods
from shopsight.training.data.errors import IngestError
from shopsight.training.data.money import Currencies, currency_code
from shopsight.training.data.sources.checks import check_source
from shopsight.training.data.sources.faults import first_fault
from shopsight.training.data.sources.keys import FORMAT_VERSION, SourcesFile, SourceTable
from shopsight.training.data.sources.source import MORE, Lookup, Source


def read_sources_file(path: Path) -> SourcesFile:
    """Parse a sources file (TOML); raises IngestError naming the entry, the key and the remedy."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise IngestError(
            f"{path}: no such sources file; 'shopsight validate FILES --out {path}' drafts one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IngestError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror})") from error
    if raw.get("format_version") != FORMAT_VERSION:
        raise IngestError(
            f"{path}: format_version is {raw.get('format_version')}, this release reads {FORMAT_VERSION}; "
            f"write 'format_version = {FORMAT_VERSION}' at the top"
        )
    try:
        return SourcesFile.model_validate(raw)
    except ValidationError as error:
        raise IngestError(first_fault(error, raw, path)) from error


def load_sources(path: Path) -> list[Source]:
    """Parse and check the sources of a file; raises IngestError naming the entry, the key and the remedy."""
    tables = read_sources_file(path).source
    if not tables:
        raise IngestError(f"{path}: names no source; add at least one [[source]] with name, kind and path")
    sources = []
    for number, table in enumerate(tables, start=1):
        source = _source(table, path.parent)
        check_source(source, f'{path}: source {number} ("{table.name}")')
        sources.append(source)
    return sources


def consent_defaults(path: Path) -> dict[str, bool]:
    """Return what holds, by purpose, for customers who said nothing; raises IngestError naming the key.

    A purpose that is not named is allowed.
    """
    return {str(purpose): allowed for purpose, allowed in read_sources_file(path).consent_default.items()}


def load_currencies(path: Path) -> Currencies:
    """Return the main currency and the rates to it: `[currency]` of a sources file; raises IngestError."""
    table = read_sources_file(path).currency
    main = (table.main or "").strip()
    if (table.main is not None or table.rates) and not main:
        raise IngestError(f"{path}: currency.main is {table.main!r}, expected the currency that rates are in")
    return Currencies(
        currency_code(main) if main else None, {currency_code(n): r for n, r in table.rates.items()}
    )


def load_goods(path: Path) -> StatedGoods:
    """Return what `[goods]` says of items; raises IngestError naming the key."""
    table = read_sources_file(path).goods
    for item in table.goods:
        if item in table.not_goods:
            raise IngestError(f'{path}: goods.goods and goods.not_goods both name "{item}"; take one out')
    return StatedGoods(tuple(table.goods), tuple(table.not_goods))


def _source(table: SourceTable, base: Path) -> Source:
    lookups = tuple(Lookup(**lookup.model_dump()) for lookup in table.lookup)
    columns: dict[str, str] = {}
    for name, (first, *others) in table.columns.items():
        columns |= {name: first, **{f"{name}{MORE}{i}": other for i, other in enumerate(others, start=2)}}
    found = {name: column for lookup in lookups for name, column in lookup.columns.items()}
    told: dict[str, Any] = table.model_dump(
        exclude={"lookup", "columns", "carry_down", "required", "constants"}
    )
    constants = dict(table.constants)
    if "currency" in constants:
        constants["currency"] = currency_code(constants["currency"])
    return Source(
        base=base,
        columns={**found, **columns},
        lookup=lookups,
        overlaid=tuple(name for name in found if name in columns),
        carry_down=tuple(table.carry_down),
        required=tuple(table.required),
        constants=constants,
        **told,
    )
