"""Writes the draft of a sources file for recognised files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from shopsight.training.data.describing.aliases import ALIASES, EVENT_WORDS
from shopsight.training.data.describing.column_names import names_of
from shopsight.training.data.describing.joins import Joined
from shopsight.training.data.describing.proposals import Proposal, times_understood
from shopsight.training.data.tables import EVENT_TYPES

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
_SOLD = ("purchase", "return")


def told(proposal: Proposal) -> str:
    """What a person is told of a file: its kind and columns, and a line for each question."""
    mapped = ", ".join(
        f"{ours} = {' and '.join(theirs) if isinstance(theirs, list) else theirs}"
        for ours, theirs in _merged(proposal.columns).items()
    )
    line = f"{proposal.series.name}: {proposal.kind} of {proposal.name}; {mapped}"
    if proposal.constants:
        line += "; everywhere " + ", ".join(f"{n} = {v}" for n, v in proposal.constants.items())
    if proposal.joined is not None:
        line += f"; {', '.join(proposal.joined.columns)} by the order id from {proposal.joined.orders.name}"
    if "timestamp" in proposal.columns and (share := times_understood(proposal.sample["timestamp"])) < 0.9:
        line += f"; only {share:.0%} of the times were understood: set timestamp_format"
    if proposal.series.encoding is not None:
        line += f"; not UTF-8, read as {proposal.series.encoding}"
    if proposal.unused:
        line += f"; not used: {', '.join(proposal.unused)}"
    return "\n".join([line, *(f"  asked: {question}" for question in proposal.questions)])


def entries(proposal: Proposal, kinds: set[str], out: Path, *, sold_elsewhere: bool = False) -> list[str]:
    """The [[source]] of some files, and those of the facts that only they have.

    kinds: of all files of the draft; sold_elsewhere: another file has the purchases, so these are no sales.
    """
    flags = list(proposal.flags)
    has_id = "source_id" in proposal.columns or (
        proposal.joined is not None and "source_id" in proposal.joined.columns
    )
    if not has_id and proposal.kind in ("events", "orders", "exposures"):
        flags.append("anonymous = true")
    if proposal.kind == "orders" and proposal.sample["order_id"].str.contains(r"^C\d").any():
        flags.append('cancelled_order_prefix = "C"')
    lines = _entry(proposal, proposal.kind, proposal.columns, flags, out)
    lines += table("source.constants", proposal.constants)
    if "event" in proposal.columns:
        lines += _event_words(proposal, sold_elsewhere)
    for name, words in proposal.values.items():
        lines += table(f"source.values.{name}", words)
        lines += [f"# {question}" for question in proposal.questions if f"the {name} " in question]
    if proposal.joined is not None:
        lines += _lookup(proposal.joined, out)
    for kind, key, names in (
        ("items", "item_id", ("title", "category_path", "brand")),
        ("customers", "source_id", _PERSON),
    ):
        tells = kind in _TELLS.get(proposal.kind, ()) and key in proposal.columns
        facts = _facts(proposal, key, names) if tells else {}
        # The mail is what joins a buyer with a customer whom another file lists.
        if facts and (kind not in kinds or "email" in facts):
            lines += _entry(proposal, kind, facts, ["derived = true"], out)
    return lines


def people_of(joined: Joined, name: str, out: Path) -> list[str]:
    """The customers that a file of orders tells, as a derived source; empty for none."""
    if "source_id" not in joined.columns:
        return []
    column = joined.columns["source_id"]
    found = names_of(joined.orders.header).found
    facts = {n: found[n][0] for n in _PERSON if found[n]}
    head = _head(name, "customers", joined.orders.path, joined.orders.encoding, out)
    return (
        [*head, "derived = true", *table("source.columns", {"source_id": column, **facts})] if facts else []
    )


def table(name: str, values: dict[str, Any]) -> list[str]:
    """A table of TOML; no lines where it is empty."""
    return [f"[{name}]", *(f"{_key(k)} = {quoted(v)}" for k, v in values.items())] if values else []


def shown(path: Path, out: Path) -> str:
    """A path or pattern relative to the folder of the sources file, where it is below that."""
    path, folder = path.parent.resolve() / path.name, out.resolve().parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def quoted(value: Any) -> str:
    """A value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else quoted(name)


def _facts(proposal: Proposal, key: str, names: tuple[str, ...]) -> dict[str, str]:
    """What a file tells of items or customers: columns that are not used, or the id where it is a mail."""
    free = [*proposal.unused, proposal.columns.get("source_id", "")]
    found = names_of(proposal.series.header).found
    known = {name: [c for c in found[name] if c in free] for name in names if name in ALIASES}
    facts = {name: columns[0] for name, columns in known.items() if columns}
    if not facts:
        return {}
    if key == "item_id":
        facts |= {n: proposal.columns[n] for n in ("price", "currency") if n in proposal.columns}
    return {key: proposal.columns[key], **facts}


def _head(name: str, kind: str, path: Path, encoding: str | None, out: Path) -> list[str]:
    head = [
        "",
        "[[source]]",
        f"name = {quoted(name)}",
        f'kind = "{kind}"',
        f"path = {quoted(shown(path, out))}",
    ]
    if encoding is not None:
        head.append(f"encoding = {quoted(encoding)}  # by the look of its bytes: check")
    return head


def _entry(proposal: Proposal, kind: str, columns: dict[str, str], flags: list[str], out: Path) -> list[str]:
    head = _head(proposal.name, kind, proposal.series.path, proposal.series.encoding, out)
    if kind in ("events", "orders"):
        flags = ['timezone = "UTC"  # of times without an offset: check', *flags]
    return [*head, *flags, *table("source.columns", _merged(columns))]


def _merged(columns: dict[str, str]) -> dict[str, Any]:
    """The columns as a sources file has them: of a field with several, a list."""
    several: dict[str, list[str]] = {}
    for key, column in columns.items():
        several.setdefault(key.split("\n")[0], []).append(column)
    return {name: found if len(found) > 1 else found[0] for name, found in several.items()}


def _lookup(joined: Joined, out: Path) -> list[str]:
    told = {"path": shown(joined.orders.path, out), "on": "order_id", "key": joined.key}
    if joined.orders.encoding is not None:
        told["encoding"] = joined.orders.encoding
    head = ["[[source.lookup]]", *(f"{name} = {quoted(value)}" for name, value in told.items())]
    return [*head, *table("source.lookup.columns", joined.columns)]


def _event_words(proposal: Proposal, sold_elsewhere: bool) -> list[str]:
    raw = proposal.sample["event"].drop_nulls().str.strip_chars().unique().sort().head(100)
    lines = []
    for value in raw.to_list():
        plain = re.sub(r"[^a-z]", "", value.lower())
        ours = next((event for event, words in EVENT_WORDS.items() if plain in words), None)
        if sold_elsewhere and (ours or value.lower()) in _SOLD:
            lines.append(f'{quoted(value)} = "no sale"  # another file has the orders')
        elif ours is not None and value.lower() != ours:
            lines.append(f'{quoted(value)} = "{ours}"')
        elif ours is None and value.lower() not in EVENT_TYPES:
            lines.append(f"# {quoted(value)} = … one of {', '.join(EVENT_TYPES)}")
    return ["[source.values.event]", *lines] if lines else []
