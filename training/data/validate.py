"""A first sources file for raw files that nobody has described: columns are recognised by their names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from training.data.aliases import (
    ALIASES,
    EVENT_WORDS,
    KEY_OF,
    KIND_WORDS,
    SHOPIFY_LINE,
    SHOPIFY_ORDERS,
    SIGNS,
)
from training.data.readers import files_of, format_of, header_of, read_chunks
from training.data.records import guess_encoding
from training.data.sources import FIELDS, FORMAT_VERSION, REQUIRED, IngestError, Source, load_sources
from training.data.tables import EVENT_TYPES
from training.data.times import parse_times

# What order lines may say of the person who ordered.
_PERSON = (
    "given_name", "family_name", "full_name", "email", "phone", "street", "city", "postcode", "country",
    "state",
)  # fmt: skip
# Rows of one kind that tell facts about things of another.
_TELLS = {
    "orders": ("items", "customers"),
    "events": ("items",),
    "messages": ("customers",),
    "reviews": ("customers",),
}
_SAMPLE_ROWS = 20_000


@dataclass(frozen=True)
class _Proposal:
    """What one file seems to be."""

    path: Path
    kind: str
    name: str
    columns: dict[str, str]
    unused: list[str]
    encoding: str | None
    sample: pl.DataFrame


def validate(files: Sequence[Path], out: Path) -> list[str]:
    """Write a first sources file for raw files and return a line for each on what was recognised.

    Raises IngestError when no file is recognised, or `out` exists: a file that someone has edited is not
    overwritten.
    """
    if out.exists():
        raise IngestError(f"{out} exists; name another file with --out, or remove it")
    lines, parts = [], [f"format_version = {FORMAT_VERSION}"]
    proposals = []
    for path in files:
        proposal, line = _recognise(path)
        lines.append(line)
        if proposal is not None:
            proposals.append(proposal)
    if not proposals:
        raise IngestError("none of the files is recognised:\n" + "\n".join(lines))
    for proposal in proposals:
        parts += _entries(proposal, proposals, out)
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    staged.write_text("\n".join(parts) + "\n", encoding="utf-8")
    try:
        load_sources(staged)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return lines


def _recognise(path: Path) -> tuple[_Proposal | None, str]:
    probe = Source(name=path.name, kind="messages", path=path.name, base=path.resolve().parent)
    files_of(probe)
    encoding = None if format_of(probe, path) == "parquet" else guess_encoding(path)
    if encoding is not None:
        probe = replace(probe, encoding=encoding)
    header = header_of(probe, path)
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in reversed(header)}
    found = {field: [plain[a] for a in aliases if a in plain] for field, aliases in ALIASES.items()}
    if SHOPIFY_LINE in plain:
        found = {field: [plain[a]] for field, a in SHOPIFY_ORDERS.items() if a in plain}
    for kind, needed, excluded in SIGNS:
        have = {name for name, columns in found.items() if columns}
        key = KEY_OF.get(kind)
        if "id" in plain and key and not found.get(key):
            have.add(key)
        if set(needed) <= have and not any(name in have for name in excluded):
            break
    else:
        return None, f"{path.name}: not recognised; its columns are {', '.join(header)}"
    if kind == "messages" and not found.get("text"):
        found["text"] = found["ticket_text"]
    columns: dict[str, str] = {}
    fields = sorted(FIELDS[kind], key=lambda name: name not in (*REQUIRED[kind], *needed, "source_id"))
    for name in fields:
        free = [column for column in found[name] if column not in columns.values()] if name in found else []
        if not free and name == key and "id" in plain:
            free = [plain["id"]]
        if free and name != "channel":
            columns[name] = free[0]
    missing = [name for name in REQUIRED[kind] if name not in columns]
    if missing:
        return None, f"{path.name}: looks like {kind}, but nothing was recognised as {', '.join(missing)}"
    unused = [column for column in header if column not in columns.values()]
    sample = _sample(replace(probe, kind=kind, columns=columns), path)
    words = [w for w in re.split(r"[^a-z0-9]+", path.name.lower().split(".")[0]) if w]
    name = "_".join(w for w in words if not KIND_WORDS.fullmatch(w)) or "shop"
    mapped = ", ".join(f"{ours} = {theirs}" for ours, theirs in columns.items())
    line = f"{path.name}: {kind} of {name}; {mapped}"
    if "timestamp" in columns:
        texts = sample["timestamp"].drop_nulls()
        share = parse_times(texts).is_not_null().mean() if texts.len() else 1.0
        if isinstance(share, float) and share < 0.9:
            line += f"; only {share:.0%} of the times were understood: set timestamp_format"
    if encoding is not None:
        line += f"; not UTF-8, read as {encoding}"
    return _Proposal(path, kind, name, columns, unused, encoding, sample), line + (
        f"; not used: {', '.join(unused)}" if unused else ""
    )


def _sample(source: Source, path: Path) -> pl.DataFrame:
    return next(iter(read_chunks(source, path))).rows.head(_SAMPLE_ROWS)


def _entries(proposal: _Proposal, all_of_them: list[_Proposal], out: Path) -> list[str]:
    """The [[source]] of a file, and those of the facts that only order lines have."""
    flags = []
    if "source_id" not in proposal.columns and proposal.kind in ("events", "orders", "exposures"):
        flags.append("anonymous = true")
    if proposal.kind == "orders" and proposal.sample["order_id"].str.contains(r"^C\d").any():
        flags.append('cancelled_order_prefix = "C"')
    lines = _entry(proposal, proposal.kind, proposal.columns, flags, out)
    if proposal.kind == "events":
        lines += _event_words(proposal)
    plain = {re.sub(r"[^a-z0-9]", "", column.lower()): column for column in proposal.unused}
    if proposal.columns.get("source_id"):  # a mail address may be the id and a fact about the person
        column = proposal.columns["source_id"]
        plain.setdefault(re.sub(r"[^a-z0-9]", "", column.lower()), column)
    kinds = {other.kind for other in all_of_them}
    for kind, key, names in (
        ("items", "item_id", ("title", "category_path", "brand")),
        ("customers", "source_id", _PERSON),
    ):
        known = {name: [plain[a] for a in ALIASES[name] if a in plain] for name in names}
        extra = {name: columns[0] for name, columns in known.items() if columns}
        tells = kind in _TELLS.get(proposal.kind, ())
        if tells and extra and kind not in kinds and key in proposal.columns:
            extra = {key: proposal.columns[key], **extra}
            if kind == "items" and "price" in proposal.columns:
                extra["price"] = proposal.columns["price"]
            lines += _entry(proposal, kind, extra, ["derived = true"], out)
    return lines


def _entry(proposal: _Proposal, kind: str, columns: dict[str, str], flags: list[str], out: Path) -> list[str]:
    path, folder = proposal.path.resolve(), out.resolve().parent
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    head = [
        "",
        "[[source]]",
        f"name = {_quoted(proposal.name)}",
        f'kind = "{kind}"',
        f"path = {_quoted(str(shown))}",
    ]
    if proposal.encoding is not None:
        flags = [f"encoding = {_quoted(proposal.encoding)}  # by the look of its bytes: check", *flags]
    if kind in ("events", "orders"):
        flags = ['timezone = "UTC"  # of times without an offset: check', *flags]
    mapping = [f"{ours} = {_quoted(theirs)}" for ours, theirs in columns.items()]
    return [*head, *flags, "[source.columns]", *mapping]


def _event_words(proposal: _Proposal) -> list[str]:
    raw = proposal.sample["event"].drop_nulls().str.strip_chars().unique().sort().head(100)
    lines = []
    for value in raw.to_list():
        plain = re.sub(r"[^a-z]", "", value.lower())
        ours = next((event for event, words in EVENT_WORDS.items() if plain in words), None)
        if ours is not None and value.lower() != ours:
            lines.append(f'{_quoted(value)} = "{ours}"')
        elif ours is None and value.lower() not in EVENT_TYPES:
            lines.append(f"# {_quoted(value)} = … one of {', '.join(EVENT_TYPES)}")
    return ["[source.values.event]", *lines] if lines else []


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
