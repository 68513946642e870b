"""A first sources file for raw files that nobody has described, and what it would give."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.pseudonym import PseudonymKey
from training.data.aliases import ALIASES, EVENT_WORDS, plain_name
from training.data.check import Books, check
from training.data.detection import Proposal, probe_of, recognise, times_understood
from training.data.ingest import ingest
from training.data.overlaps import shared_orders
from training.data.presets import Other, preset_of
from training.data.readers import header_of
from training.data.sources import FORMAT_VERSION, IngestError, load_sources
from training.data.tables import EVENT_TYPES
from training.workspace import Workspace

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


@dataclass(frozen=True)
class _Found:
    """A file that is recognised: a proposal, or the drafted lines of a preset; what is said of it."""

    line: str
    proposal: Proposal | None
    drafted: list[str]
    kinds: tuple[str, ...]


def validate(files: Sequence[Path], out: Path) -> list[str]:
    """Write a first sources file for raw files and return lines on what was recognised and is asked.

    A file that is not recognised or cannot be read has its line and does not stop the others. Raises
    IngestError when no file is recognised, or `out` exists: a file that someone has edited is not
    overwritten. Files that tell the same orders are asked about.
    """
    if out.exists():
        raise IngestError(f"{out} exists; name another file with --out, or remove it")
    lines, found, others = [], [], _headers(files, out)
    for path in files:
        try:
            found.append(_look_at(path, out, others))
            lines.append(found[-1].line)
        except (IngestError, OSError) as error:
            lines.append(str(error) if path.name in str(error) else f"{path.name}: {error}")
    if not found:
        raise IngestError("none of the files is recognised:\n" + "\n".join(lines))
    kinds = {kind for one in found for kind in one.kinds}
    parts = [f"format_version = {FORMAT_VERSION}"]
    for one in found:
        parts += one.drafted if one.proposal is None else _entries(one.proposal, kinds, out)
    _write(out, parts)
    return [*lines, *shared_orders(out)]


def rehearse(sources_file: Path) -> tuple[Books | None, str]:
    """Ingest into a workspace that is thrown away; returns its figures, or what ingest asks."""
    with tempfile.TemporaryDirectory(prefix="shopsight-validate-") as folder:
        workspace = Workspace(Path(folder))
        try:
            ingest(sources_file, workspace, PseudonymKey("rehearsal", secrets.token_bytes(32)))
        except IngestError as error:
            return None, str(error)
        return check(workspace.tables), ""


def _write(out: Path, parts: list[str]) -> None:
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    staged.write_text("\n".join(parts) + "\n", encoding="utf-8")
    try:
        load_sources(staged)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)


def _headers(files: Sequence[Path], out: Path) -> list[Other]:
    """The headers of the files that have one."""
    others = []
    for path in files:
        try:
            probe, encoding = probe_of(path)
            more = {} if encoding is None else {"encoding": encoding}
            others.append(Other(_shown(path, out), header_of(probe, path), more))
        except (IngestError, OSError):
            continue
    return others


def _look_at(path: Path, out: Path, others: list[Other]) -> _Found:
    """What a file is; raises IngestError that says what it is not."""
    probe, encoding = probe_of(path)
    header = header_of(probe, path)
    if (preset := preset_of(header)) is not None:
        more = {} if encoding is None else {"encoding": encoding}
        drafted = preset.drafted(header, _shown(path, out), more, others)
        kinds = tuple(entry["kind"] for entry in preset.entries if not entry.get("derived"))
        line = f"{path.name}: {preset.name}; columns, statuses and amounts as this system always writes them"
        return _Found(line, None, drafted, kinds)
    proposal = recognise(path)
    return _Found(_told(proposal), proposal, [], (proposal.kind,))


def _told(proposal: Proposal) -> str:
    mapped = ", ".join(f"{ours} = {theirs}" for ours, theirs in proposal.columns.items())
    line = f"{proposal.path.name}: {proposal.kind} of {proposal.name}; {mapped}"
    if "timestamp" in proposal.columns and (share := times_understood(proposal.sample["timestamp"])) < 0.9:
        line += f"; only {share:.0%} of the times were understood: set timestamp_format"
    if proposal.encoding is not None:
        line += f"; not UTF-8, read as {proposal.encoding}"
    if proposal.unused:
        line += f"; not used: {', '.join(proposal.unused)}"
    return "\n".join([line, *(f"  asked: {question}" for question in proposal.questions)])


def _entries(proposal: Proposal, kinds: set[str], out: Path) -> list[str]:
    """The [[source]] of a file, and those of the facts that only order lines have."""
    flags = list(proposal.flags)
    if "source_id" not in proposal.columns and proposal.kind in ("events", "orders", "exposures"):
        flags.append("anonymous = true")
    if proposal.kind == "orders" and proposal.sample["order_id"].str.contains(r"^C\d").any():
        flags.append('cancelled_order_prefix = "C"')
    lines = _entry(proposal, proposal.kind, proposal.columns, flags, out)
    if proposal.kind == "events":
        lines += _event_words(proposal)
    for name, words in proposal.values.items():
        lines += [f"[source.values.{name}]", *(f"{_quoted(k)} = {_quoted(v)}" for k, v in words.items())]
        lines += [f"# {question}" for question in proposal.questions if f"the {name} " in question]
    plain = {plain_name(column): column for column in proposal.unused}
    if proposal.columns.get("source_id"):  # a mail address may be the id and a fact about the person
        column = proposal.columns["source_id"]
        plain.setdefault(plain_name(column), column)
    for kind, key, names in (
        ("items", "item_id", ("title", "category_path", "brand")),
        ("customers", "source_id", _PERSON),
    ):
        known = {name: [plain[a] for a in ALIASES[name] if a in plain] for name in names}
        extra = {name: columns[0] for name, columns in known.items() if columns}
        tells = kind in _TELLS.get(proposal.kind, ())
        if tells and extra and kind not in kinds and key in proposal.columns:
            extra = {key: proposal.columns[key], **extra}
            if kind == "items":
                extra |= {n: proposal.columns[n] for n in ("price", "currency") if n in proposal.columns}
            lines += _entry(proposal, kind, extra, ["derived = true"], out)
    return lines


def _shown(path: Path, out: Path) -> str:
    path, folder = path.resolve(), out.resolve().parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _entry(proposal: Proposal, kind: str, columns: dict[str, str], flags: list[str], out: Path) -> list[str]:
    head = [
        "",
        "[[source]]",
        f"name = {_quoted(proposal.name)}",
        f'kind = "{kind}"',
        f"path = {_quoted(_shown(proposal.path, out))}",
    ]
    if proposal.encoding is not None:
        flags = [f"encoding = {_quoted(proposal.encoding)}  # by the look of its bytes: check", *flags]
    if kind in ("events", "orders"):
        flags = ['timezone = "UTC"  # of times without an offset: check', *flags]
    mapping = [f"{ours} = {_quoted(theirs)}" for ours, theirs in columns.items()]
    return [*head, *flags, "[source.columns]", *mapping]


def _event_words(proposal: Proposal) -> list[str]:
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
