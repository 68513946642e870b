"""Ten thousand malformed rows: nothing crashes, every row is accounted for, hostile ids go nowhere."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)
FIELDS = ("who", "what", "item", "at", "qty", "price", "visit")
SOURCES = """format_version = 1
[[source]]
name = "web"
kind = "events"
path = "{path}"
anonymous = true
date_order = "day_first"
[source.columns]
source_id = "who"
event = "what"
item_id = "item"
timestamp = "at"
quantity = "qty"
price = "price"
session_id = "visit"
"""
REASONS = {
    "malformed_row", "broken_utf8", "missing_field", "bad_value", "unparsable_date", "negative_price",
    "impossible_time", "unusable_id", "duplicate", "unknown_item", "unclosed_quote", "stray_quote",
    "repeated_header", "total_row", "no_sale",
}  # fmt: skip
HOSTILE = [
    "../../etc/passwd", "..\\..\\boot.ini", "nul\0byte", "two\nlines", "'; DROP TABLE events; --",
    "=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "-2+3", "x" * 65_536, "Ωμέγα客戶عميل",
    "\u202etxt.exe", "👩‍👩‍👧", "\ttab",
    "%00", "${jndi:ldap://x}", "<script>alert(1)</script>", "\x7f", "a\rb", '"quoted"', "null", "NaN",
    "-0", "\u00e9",
    "e\u0301",
]  # fmt: skip
WORDS = {
    "who": ["u1", "u2", "", " u3 ", *HOSTILE],
    "what": ["view", "VIEW", "cart", "purchase", "return", "", "explode", " view", "\\N", "search"],
    "item": ["i1", "i2", "", *HOSTILE],
    "at": [
        "2024-05-01 10:00:00", "2024-05-01T10:00:00Z", "1714557600", "1714557600000", "",
        "yesterday", "31/31/2024",
        "13/5/2024 08:00", "5/13/2024", "0001-01-01", "9999-12-31", "-1", "1e400",
        "2024-05-01T10:00:00+99:99",
        "0",
        "20240501", "99999999999999999999", "2024-02-30",
    ],
    "qty": ["1", "2.0", "-1", "", "1e3", "x", "99999999999999999999", "1.5", "0x10", "inf", "-0", " 3 "],
    "price": ["9.99", "", "-1", "NaN", "inf", "1e20", "1,5", "£3", "0", "0.00001", "-0.0"],
    "visit": ["s1", "", *HOSTILE[:6]],
}  # fmt: skip


def write_csv(rng: random.Random, rows: int, style: dict[str, object]) -> bytes:
    separator, end = str(style["separator"]), str(style["end"])
    lines = [separator.join(FIELDS).encode()]
    for _ in range(rows):
        fields = [rng.choice(WORDS[name]) for name in FIELDS]
        if rng.random() < 0.5:
            fields = ['"' + f.replace('"', '""') + '"' if set(f) & set('",;\t\n\r') else f for f in fields]
        if rng.random() < 0.1:
            fields = fields[: rng.randrange(9)] + ["extra"] * rng.randrange(3)
        line = separator.join(fields).encode()
        if rng.random() < 0.15 and line:
            at = rng.randrange(len(line))
            line = (
                line[:at]
                + rng.choice([b"\xff", b"\xc3", b'"', b"\xed\xa0\x80", b"\x00", b""])
                + line[at + 1 :]
            )
        lines.append(line)
        if rng.random() < 0.05:
            lines.append(b"")
    return end.encode().join(lines) + (end.encode() if style["closed"] else b"")


def write_jsonl(rng: random.Random, rows: int, style: dict[str, object]) -> bytes:
    lines = [json.dumps(dict.fromkeys(FIELDS, "1")).encode()]
    for _ in range(rows):
        record = {name: rng.choice([*WORDS[name], None, 3, 2.5, True, [1], {"a": "b"}]) for name in FIELDS}
        if rng.random() < 0.1:
            del record[rng.choice(FIELDS)]
        line = json.dumps(record, ensure_ascii=rng.random() < 0.5).encode()
        if rng.random() < 0.2:
            at = rng.randrange(len(line))
            line = line[:at] + rng.choice([b"", b"\xff", b"}", b"{", b'"', b"\\", b"[[["]) + line[at + 1 :]
        lines.append(line)
    end = str(style["end"]).encode()
    return end.join(lines) + (end if style["closed"] else b"")


def check(report: IngestReport, workspace: Workspace) -> None:
    """Every row is in the tables or refused with a reason, and the tables can be read."""
    refused = pl.read_parquet(workspace.quarantine / "refused.parquet")
    assert report.accepted + sum(report.refused.values()) == report.read
    assert refused.height == sum(report.refused.values()) and set(report.refused) <= REASONS
    assert refused["reason"].null_count() == 0 and refused.select("file", "row").is_unique().all()
    events = scan_table(workspace.tables, "events").collect()
    assert events.height == report.accepted == report.tables["events"]
    assert events["event_id"].is_unique().all()
    known = {text.strip() for text in (*WORDS["item"], "1", "3", "2.5", "true", "[1]", '{"a":"b"}')}
    odd = [item for item in events["item_id"].drop_nulls().unique() if len(item) > 512 or "\0" in item]
    assert odd == []
    assert len(set(events["item_id"].drop_nulls()) & known) > 0
    # Nothing that came in names a file.
    names = "".join(path.name for path in workspace.root.rglob("*"))
    assert not any(text in names for text in ("passwd", "cmd|", "DROP", "客戶", "script"))


styles = st.fixed_dictionaries(
    {
        "separator": st.sampled_from([",", ";", "\t", "|"]),
        "end": st.sampled_from(["\n", "\r\n"]),
        "closed": st.booleans(),
        "mark": st.sampled_from([b"", b"\xef\xbb\xbf"]),
        "packed": st.booleans(),
        "block": st.sampled_from([2_000, 70_000, 1 << 20]),
    }
)


@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), style=styles, kind=st.sampled_from(["csv", "jsonl"]))
def test_malformed_rows_are_all_accounted_for(seed: int, style: dict[str, object], kind: str) -> None:
    write = write_csv if kind == "csv" else write_jsonl
    content = style["mark"] + write(random.Random(seed), 420, style)  # type: ignore[operator]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("shopsight.training.data.reading.records.BLOCK_BYTES", style["block"])
        folder, path = Path(name), f"rows.{kind}" + (".gz" if style["packed"] else "")
        (folder / path).write_bytes(gzip.compress(content, 1) if style["packed"] else content)
        (folder / "sources.toml").write_text(SOURCES.format(path=path))
        workspace = Workspace(folder / "w")
        report = ingest(folder / "sources.toml", workspace, KEY)
        check(report, workspace)
        assert 0 < report.accepted < report.read


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=3_000), suffix=st.sampled_from(["csv", "jsonl", "parquet", "csv.gz"]))
def test_any_bytes_are_read_or_refused_in_a_sentence(content: bytes, suffix: str) -> None:
    header = b",".join(f.encode() for f in FIELDS) + b"\n" if suffix == "csv" else b""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"rows.{suffix}").write_bytes(header + content)
        (folder / "sources.toml").write_text(SOURCES.format(path=f"rows.{suffix}"))
        try:
            report = ingest(folder / "sources.toml", Workspace(folder / "w"), KEY)
        except IngestError as error:
            assert "rows." in str(error)
        else:
            assert report.accepted + sum(report.refused.values()) == report.read > 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_hostile_ids_come_out_as_they_went_in_or_are_refused(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {
            "who": text,
            "what": "view",
            "item": text,
            "at": f"2024-05-01 10:{i:02d}:00",
            "qty": "1",
            "price": "1",
        }
        | {"visit": f"s{i}"}
        for i, text in enumerate(HOSTILE)
    ]
    frame, path = pl.DataFrame(rows), tmp_path / f"rows.{kind}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind](path)
    (tmp_path / "sources.toml").write_text(SOURCES.format(path=path.name))
    workspace, said = Workspace(tmp_path / "w"), []
    report = ingest(tmp_path / "sources.toml", workspace, KEY, progress=said.append)
    check(report, workspace)
    kept = scan_table(workspace.tables, "events").collect().sort("timestamp")
    expected = [t for t in (text.strip() for text in HOSTILE) if len(t) <= 512 and not _has_control(t)]
    assert kept["item_id"].to_list() == expected
    assert report.refused == {"unusable_id": len(HOSTILE) - len(expected)}
    # The ids of people are in no table, no report and no line that was printed.
    out = "".join(capfd.readouterr()) + "".join(said) + json.dumps(report.as_dict())
    out += "".join(p.read_text() for p in workspace.root.rglob("*.json") if "intake" not in p.parts)
    identities = scan_table(workspace.tables, "identities").collect()
    assert identities.height == len(expected)
    for text in ("etc/passwd", "cmd|", "DROP TABLE", "jndi", "客戶", "script>"):
        assert text not in out
        assert not identities["source_id"].str.contains(text, literal=True).any()


def _has_control(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in text)
