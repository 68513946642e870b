"""Drafts a sources file for undescribed raw files, and shows the totals that it would give."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.check import Books, check
from shopsight.training.data.describing.detection import recognise, without_rows
from shopsight.training.data.describing.drafting import entries, people_of, shown, told
from shopsight.training.data.describing.id_spaces import one_id_space
from shopsight.training.data.describing.line_values import NO_CURRENCY_NAMED
from shopsight.training.data.describing.overlaps import Overlap, shared_orders
from shopsight.training.data.describing.proposals import Proposal
from shopsight.training.data.describing.series import RawFile, Series, in_series, open_raw
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest
from shopsight.training.data.presets import Other, Preset, preset_of
from shopsight.training.data.reading.readers import data_files, files_of, read_chunks
from shopsight.training.data.sources.keys import FORMAT_VERSION
from shopsight.training.data.sources.load import load_sources

_LACKS = {
    "currency": NO_CURRENCY_NAMED,
    "status": "no column has the statuses, so cancelled and unpaid orders are sales: export it as well",
}


@dataclass(frozen=True)
class Draft:
    """What is said of the files, a line or more each; `is_open`: a file or a question is left to a person."""

    lines: list[str]
    is_open: bool


@dataclass(frozen=True)
class _Found:
    """Files that are recognised: by a proposal or a preset, or as the orders that others are joined with."""

    series: Series
    line: str
    kinds: tuple[str, ...]
    proposal: Proposal | None = None
    preset: Preset | None = None
    lacks: tuple[str, ...] = ()  # columns of its preset without which the totals are wrong

    @property
    def is_open(self) -> bool:
        """Whether the totals are wrong until a person has answered."""
        return bool(self.lacks) or (self.proposal is not None and self.proposal.is_open)

    @property
    def is_log(self) -> bool:
        """Whether sales are one of the things that the files tell."""
        return "events" in self.kinds

    @property
    def lists_returns(self) -> bool:
        """Whether the rows are what came back."""
        return self.proposal is not None and self.proposal.constants.get("event") == "return"

    @property
    def tells_returns(self) -> bool:
        """Whether orders say themselves what came back of them."""
        if "orders" not in self.kinds:
            return False
        if self.preset is not None:
            return self.preset.tells_returns(self.series.header)
        proposal = self.proposal
        return proposal is not None and (
            "refunded" in proposal.columns or "returned" in proposal.values.get("status", {}).values()
        )


def validate(paths: Sequence[Path], out: Path) -> Draft:
    """Write a first sources file for raw files or folders of them; what it cannot know is asked.

    A file that is not recognised or cannot be read has its line and does not stop the others. Of files that
    tell the same orders one is left out, as comments. Raises IngestError when no file is recognised, or `out`
    exists: a file that someone has edited is not overwritten.
    """
    if out.exists():
        raise IngestError(f"{out} exists; name another file with --out, or remove it")
    said: dict[Path, str] = {}
    files = _open_all(paths, said)
    found = _look_at_all(in_series(files, ()), out, said)
    overlaps = _overlaps(found, out)
    if apart := _two_exports(found, overlaps):
        found = _look_at_all(in_series(files, apart), out, said)
        overlaps = _overlaps(found, out)
    lines = [line for _, line in sorted(said.items(), key=lambda pair: _place(pair[0], paths))]
    if not found:
        raise IngestError("none of the files is recognised:\n" + "\n".join(lines))
    asked, parts = _parts(found, overlaps, out)
    _write(out, parts)
    is_open = bool(asked) or len(said) > len(found)
    is_open = is_open or any(one.is_open for one in found)
    return Draft([*lines, *asked], is_open)


def check_sources(sources_file: Path) -> Draft:
    """Read a sources file that a person has written; returns a line for each source. Raises IngestError."""
    sources, lines = load_sources(sources_file), []
    for source in sources:
        files = files_of(source)
        named = files[0].name if len(files) == 1 else f"{len(files)} files"
        lines.append(f"{source.label}: {named}; {', '.join(source.fields)}")
    return Draft([*lines, *(f"{o.question} their money counts twice" for o in shared_orders(sources))], False)


def rehearse(sources_file: Path) -> tuple[Books | None, str]:
    """Ingest into a workspace that is thrown away; returns its figures, or what ingest asks."""
    with tempfile.TemporaryDirectory(prefix="shopsight-validate-") as folder:
        workspace = Workspace(Path(folder))
        try:
            ingest(sources_file, workspace, PseudonymKey("rehearsal", secrets.token_bytes(32)))
        except IngestError as error:
            return None, str(error)
        return check(workspace.tables), ""


def _open_all(paths: Sequence[Path], said: dict[Path, str]) -> list[RawFile]:
    """The files that can be opened; of the others `said` gets a line."""
    files = []
    named = [file for path in paths for file in (data_files(path) if path.is_dir() else [path])]
    for path in dict.fromkeys(named):
        if path.suffix == ".toml":
            said[path] = f"{path.name}: a sources file; 'shopsight validate {path}' alone checks it"
            continue
        try:
            files.append(open_raw(path))
        except (IngestError, OSError) as error:
            said[path] = _problem(path.name, error)
    return files


def _problem(name: str, error: Exception) -> str:
    return str(error) if name in str(error) else f"{name}: {error}"


def _place(path: Path, paths: Sequence[Path]) -> tuple[int, str]:
    first = next(i for i, named in enumerate(paths) if path == named or path.is_relative_to(named))
    return first, str(path)


def _look_at_all(series: list[Series], out: Path, said: dict[Path, str]) -> list[_Found]:
    """What each series is; `said` gets a line for each."""
    found = []
    for one in series:
        path = one.files[0].path
        try:
            found.append(_look_at(one, series, out))
            said[path] = found[-1].line
        except (IngestError, OSError) as error:
            said[path] = _problem(one.name, error)
    proposals = iter(one_id_space([one.proposal for one in found if one.proposal is not None]))
    found = [replace(one, proposal=next(proposals)) if one.proposal is not None else one for one in found]
    found = [_buyers_of(one, found) for one in found]
    # A file of orders that lines are joined with is no source of sales itself.
    for lines in found.copy():
        if lines.proposal is None or lines.proposal.joined is None or lines.lists_returns:
            continue
        joined = lines.proposal.joined.orders
        line = f"{joined.name}: orders, read with {lines.series.name}"
        said[joined.files[0].path] = line
        found = [one for one in found if one.series is not joined]
        found.append(_Found(joined, line, ()))
    return found


def _buyers_of(one: _Found, found: Sequence[_Found]) -> _Found:
    """Returns whose buyers another file has, in the id space of that file."""
    if one.proposal is None or one.proposal.joined is None or not one.lists_returns:
        return one
    orders = next((o for o in found if o.series is one.proposal.joined.orders), one)
    preset = orders.preset.entries[0]["name"] if orders.preset is not None else ""
    name = orders.proposal.name if orders.proposal is not None else preset
    return replace(one, proposal=replace(one.proposal, name=name))


def _look_at(series: Series, others: Sequence[Series], out: Path) -> _Found:
    """What files are; raises IngestError that says what they are not."""
    preset = preset_of(series.header)
    if preset is None:
        proposal = recognise(series, others)
        return _Found(series, told(proposal), (proposal.kind,), proposal=proposal)
    if not any(chunk.num_read for file in series.files for chunk in read_chunks(file.probe, file.path)):
        raise without_rows(series)
    _drafted(preset, series, others, out, sold_elsewhere=False)
    kinds = tuple(entry["kind"] for entry in preset.entries if not entry.get("derived"))
    line = f"{series.name}: {preset.name}; columns, statuses and amounts as this system always writes them"
    lacks = tuple(preset.lacking(series.header))
    line += "".join(f"\n  asked: {_LACKS[name]}" for name in lacks)
    return _Found(series, line, kinds, preset=preset, lacks=lacks)


def _drafted(
    preset: Preset, series: Series, others: Sequence[Series], out: Path, *, sold_elsewhere: bool
) -> list[str]:
    beside = [Other(shown(one.path, out), one.header, _encoding(one)) for one in others]
    path = shown(series.path, out)
    return preset.drafted(series.header, path, _encoding(series), beside, sold_elsewhere=sold_elsewhere)


def _encoding(series: Series) -> dict[str, str]:
    return {} if series.encoding is None else {"encoding": series.encoding}


def _text(one: _Found, found: Sequence[_Found], out: Path, *, sold_elsewhere: bool = False) -> list[str]:
    """The entries of some files."""
    others = [other.series for other in found]
    if one.preset is not None:
        return _drafted(one.preset, one.series, others, out, sold_elsewhere=sold_elsewhere)
    kinds = {kind for other in found for kind in other.kinds}
    if one.proposal is not None:
        return entries(one.proposal, kinds, out, sold_elsewhere=sold_elsewhere)
    for other in found:
        joined = other.proposal.joined if other.proposal is not None else None
        if joined is not None and joined.orders is one.series and "customers" not in kinds:
            return people_of(joined, other.proposal.name, out)  # type: ignore[union-attr]
    return []


def _overlaps(found: Sequence[_Found], out: Path) -> list[Overlap]:
    if not found:
        return []
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        _stage(staged, [line for one in found for line in _text(one, found, out)])
        return shared_orders(load_sources(staged))
    finally:
        staged.unlink(missing_ok=True)


def _two_exports(found: Sequence[_Found], overlaps: Sequence[Overlap]) -> set[Path]:
    """The files of each series of which two tell the same orders."""
    apart: set[Path] = set()
    for one in found:
        paths = {file.path.resolve() for file in one.series.files}
        if any({o.more.resolve(), o.fewer.resolve()} <= paths for o in overlaps):
            apart |= {file.path for file in one.series.files}
    return apart


def _parts(found: Sequence[_Found], overlaps: Sequence[Overlap], out: Path) -> tuple[list[str], list[str]]:
    """What is asked of several files, and the lines of the draft, in which no order is sold twice."""
    of_file = {file.path.resolve(): one for one in found for file in one.series.files}
    asked: list[str] = []
    left_out: list[_Found] = []
    no_sales: list[_Found] = []
    for overlap in overlaps:
        more, fewer = of_file[overlap.more.resolve()], of_file[overlap.fewer.resolve()]
        log = fewer if fewer.is_log else more if more.is_log else None
        if any(one in left_out or one in no_sales for one in (more, fewer)):
            continue
        if log is not None:
            no_sales.append(log)
            asked.append(
                f"{overlap.question} The purchases of {log.series.name} are left out as no sales; if they "
                f"are others, take that out of its values in {out.name}"
            )
        else:
            left_out.append(fewer)
            asked.append(
                f"{overlap.question} {fewer.series.name} is left out; if its orders are others, take the "
                f"# off its entries in {out.name}"
            )
    sold = [one for one in found if "orders" in one.kinds and not _pays(one) and one not in left_out]
    for one in [one for one in found if _pays(one) and sold]:
        left_out.append(one)
        asked.append(
            f"asked: {one.series.name} lists payments: are they of the orders in {sold[0].series.name}? They "
            f"are left out; if they are of other orders, take the # off their entries in {out.name}"
        )
    told = [one for one in sold if one.tells_returns and one not in left_out]
    for one in [one for one in found if one.lists_returns and told]:
        left_out.append(one)
        asked.append(
            f"asked: {one.series.name} lists returns: does {told[0].series.name} say them as well? They are "
            f"left out; if they are others, take the # off their entries in {out.name}"
        )
    parts = []
    for one in found:
        lines = _text(one, found, out, sold_elsewhere=one in no_sales)
        parts += [f"# {line}".rstrip() for line in lines] if one in left_out else lines
    return asked, parts


def _pays(one: _Found) -> bool:
    return one.preset is not None and one.preset.lists_payments


def _write(out: Path, parts: list[str]) -> None:
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        _stage(staged, parts)
        load_sources(staged)
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)


def _stage(path: Path, parts: Collection[str]) -> None:
    path.write_text("\n".join([f"format_version = {FORMAT_VERSION}", *parts]) + "\n", encoding="utf-8")
