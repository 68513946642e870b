"""Files as they lie on a shop's disk: notes before the header, other encodings, workbooks, empty ones."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from shopsight.training.cli.main import app
from shopsight.training.data.errors import IngestError
from shopsight.training.data.quarantine import REASONS
from shopsight.training.data.reading.chunks import Chunk
from shopsight.training.data.reading.readers import files_of, header_of, read_chunks
from shopsight.training.data.reading.records import guess_encoding
from shopsight.training.data.sources.source import Source

HEADER = ["Order", "SKU", "Qty", "When"]
ROWS = [["1", "A", "2", "2025-06-01"], ["2", "Ä", "1", "2025-06-02"]]
COLUMNS = {"order_id": "Order", "item_id": "SKU", "quantity": "Qty", "timestamp": "When"}


def source(folder: Path, path: str, columns: dict[str, str] | None = None, **how: Any) -> Source:
    return Source("s", "orders", path, folder, columns=COLUMNS if columns is None else columns, **how)


def read(folder: Path, name: str, content: bytes, **how: Any) -> tuple[list[list[str]], list[Chunk]]:
    (folder / name).write_bytes(content)
    chunks = list(read_chunks(source(folder, name, **how), folder / name))
    rows = pl.concat([chunk.rows for chunk in chunks]).drop("row", "hi", "lo")
    return [list(row) for row in rows.rows()], chunks


def text(separator: str = ",", before: str = "", after: str = "") -> str:
    return before + "\n".join(separator.join(row) for row in [HEADER, *ROWS]) + "\n" + after


@pytest.mark.parametrize(
    "before",
    [
        "sep={s}\n", '"sep={s}"\n', "SEP={s}\r\n", "Report of June\n\nAll amounts in EUR\n",
        '"Includes A, B, and C"\n"All amounts in USD, unless specified"\n',
        "Period:{s}June{s}{s}\n{s}{s}{s}\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mapped", [True, False])
def test_the_header_is_found_behind_what_stands_before_it(
    tmp_path: Path, before: str, separator: str, mapped: bool
) -> None:
    content = text(separator, before.format(s=separator)).encode("utf-8-sig")
    rows, chunks = read(tmp_path, "f.csv", content)
    assert rows == ROWS and all(chunk.refused.is_empty() for chunk in chunks)
    unmapped = source(tmp_path, "f.csv", columns=COLUMNS if mapped else {})
    assert header_of(unmapped, tmp_path / "f.csv") == HEADER
    assert bool(chunks[0].notes) != before.lower().strip('"').startswith("sep=")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_any_line_end_ends_a_line(tmp_path: Path, end: str, encoding: str) -> None:
    content = text().replace("\n", end).encode(encoding)
    rows, chunks = read(tmp_path, "f.csv", content)
    assert rows == ROWS and all(chunk.refused.is_empty() for chunk in chunks)


def test_header_line_says_where_the_header_is(tmp_path: Path) -> None:
    content = ("a,b,c,d\n" * 3 + text()).encode()
    assert header_of(source(tmp_path, "f.csv", columns={}, header_line=4), _file(tmp_path, content)) == HEADER
    assert read(tmp_path, "f.csv", content, header_line=4)[0] == ROWS
    with pytest.raises(IngestError, match="header_line is 40, the file has fewer lines"):
        read(tmp_path, "f.csv", content, header_line=40)


def test_a_header_with_a_line_end_in_a_name(tmp_path: Path) -> None:
    content = text().replace("Order,", '"Order\nNo.",', 1).encode()
    columns = COLUMNS | {"order_id": "Order No."}
    assert read(tmp_path, "f.csv", content, columns=columns)[0] == ROWS


def test_a_name_that_stands_twice_is_asked_for_only_where_it_is_used(tmp_path: Path) -> None:
    content = b"Order,SKU,Name,Qty,Name,When,,\n1,A,x,2,Pia,2025-06-01,,\n"
    assert read(tmp_path, "f.csv", content)[0] == [["1", "A", "2", "2025-06-01"]]
    with pytest.raises(IngestError, match=r'f.csv: the header names column "Name" 2 times .for channel.'):
        read(tmp_path, "f.csv", content, columns=COLUMNS | {"channel": "Name"})
    rows, _ = read(tmp_path, "f.csv", content, columns=COLUMNS | {"channel": "Name (2)"})
    assert rows == [["1", "A", "2", "2025-06-01", "Pia"]]


@pytest.mark.parametrize(
    "word", ["Total", "Grand Total", "Summe", "Итого", "合计", "TOTAL:", "Sous-total", "Suma"]
)
@pytest.mark.parametrize("form", ["{w},,3,", '"{w}","","3",""', ",{w},3,", "{w},3", "{w} (2),,3,"])
def test_a_row_of_totals_and_a_second_header_say_what_they_are(tmp_path: Path, word: str, form: str) -> None:
    after = ",".join(HEADER) + "\n\ufeff" + ",".join(HEADER) + "\n" + form.format(w=word) + "\n"
    rows, (chunk,) = read(tmp_path, "f.csv", text(after=after).encode())
    assert rows == ROWS
    assert chunk.refused["reason"].to_list() == ["repeated_header"] * 2 + ["total_row"]


def test_an_order_or_a_title_that_is_called_total_stays(tmp_path: Path) -> None:
    after = "Total,B,1,2025-06-03\nTotalenergies,,1,2025-06-03\nSummer,,1,2025-06-03\n"
    rows, _ = read(tmp_path, "f.csv", text(after=after).encode())
    assert [row[0] for row in rows] == ["1", "2", "Total", "Totalenergies", "Summer"]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "cp1252"]
)
def test_encodings_are_recognised(tmp_path: Path, encoding: str) -> None:
    titles = (
        ["蓝色杯子", "大号", "真丝连衣裙"] if encoding == "gb18030" else ["Größe", "Ångström", "Weiß", "é"]
    )
    content = (text() + "".join(f"{i},{title},1,2025-06-03\n" for i, title in enumerate(titles))).encode(
        encoding
    )
    path = _file(tmp_path, content.replace("Ä".encode(), b"A") if encoding == "gb18030" else content)
    found = guess_encoding(path)
    assert found == (encoding if encoding in ("gb18030", "cp1252") else None)
    rows, _ = read(tmp_path, "f.csv", path.read_bytes(), encoding=found or "utf-8")
    assert [row[1] for row in rows[2:]] == titles


def test_one_bad_byte_does_not_change_the_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "gb18030"):
        good = text(after="3,真丝连衣裙,1,2025-06-03\n4,大号,1,2025-06-03\n" * 40).encode(encoding)
        path = _file(tmp_path, good + b"9,\xff\xff,1,2025-06-03\n")
        assert guess_encoding(path) == (None if encoding == "utf-8" else encoding)
        rows, (chunk,) = read(tmp_path, "f.csv", path.read_bytes(), encoding=guess_encoding(path) or "utf-8")
        assert rows[-1][1] == "大号" and chunk.refused["reason"].to_list() == ["broken_utf8"]


def test_a_header_in_another_encoding_names_the_one_it_seems_to_be(tmp_path: Path) -> None:
    content = text().replace("SKU", "Größe").replace("A,", "Weiß,").encode("cp1252")
    with pytest.raises(
        IngestError, match='header is not UTF-8; it looks like cp1252: say encoding = "cp1252"'
    ):
        read(tmp_path, "f.csv", content)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b"sep=;\n"])
def test_an_empty_file_is_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IngestError, match=r"f.csv: the file is empty; export it again"):
        read(tmp_path, "f.csv", content)


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(",".join(HEADER))
    assert sum(c.num_read for c in read_chunks(source(tmp_path, "f.csv"), tmp_path / "f.csv")) == 0


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> None:
    """Write the least workbook that Excel opens; a pair is a number and its style (1: a time)."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kinds = "application/vnd.openxmlformats-package.relationships+xml"
    entries = "".join(f'<sheet name="{n}" sheetId="{i}" r:id="r{i}"/>' for i, n in enumerate(sheets, 1))
    links = "".join(
        f'<Relationship Id="r{i}" Type="{office}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i in range(1, len(sheets) + 1)
    )
    links += f'<Relationship Id="s" Type="{office}/styles" Target="styles.xml"/>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Default Extension="rels" ContentType="{kinds}"/>'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        root = f'<Relationship Id="r" Type="{office}/officeDocument" Target="xl/workbook.xml"/>'
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{package}">{root}</Relationships>')
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>{entries}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}">{links}</Relationships>'
        )
        styles = '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{main}">{styles}</styleSheet>')
        for i, rows in enumerate(sheets.values(), 1):
            lines = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
            sheet = f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'
            archive.writestr(f"xl/worksheets/sheet{i}.xml", sheet)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return f'<c s="{value[1]}"><v>{value[0]}</v></c>'
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    return f'<c t="inlineStr"><is><t>{value}</t></is></c>'


SHEET = [
    ["Orders of June"], [], HEADER,
    [1001, "0007", 2.0, (45809.5, 1)], ["B-2", 'Lamp, 24&quot; "x"', 0.45, "2025-06-02 10:00"],
    ["Total", "", 2.45, ""],
]  # fmt: skip
READ = [["1001", "0007", "2", "2025-06-01 12:00:00"], ["B-2", 'Lamp, 24" "x"', "0.45", "2025-06-02 10:00"]]


def test_a_workbook_is_read_like_other_files(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    workbook(tmp_path / "f.xlsx", {"Notes": [["Read me"]], "June": SHEET, "Empty": []})
    rows, (chunk,) = read(tmp_path, "f.xlsx", (tmp_path / "f.xlsx").read_bytes())
    assert rows == READ and chunk.refused["reason"].to_list() == ["total_row"]
    assert chunk.notes == ('sheet "June" of 2 is read', "header found on line 2, 1 line before it left out")
    assert header_of(source(tmp_path, "f.xlsx"), tmp_path / "f.xlsx") == HEADER
    assert guess_encoding(tmp_path / "f.xlsx") is None


def test_the_sheet_is_asked_for_where_more_than_one_fits(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    workbook(tmp_path / "f.xlsx", {"May": SHEET[2:], "June": SHEET})
    content = (tmp_path / "f.xlsx").read_bytes()
    with pytest.raises(
        IngestError, match=r'has 2 sheets, and 2 of them .* say sheet = "…", one of May, June'
    ):
        read(tmp_path, "f.xlsx", content)
    assert read(tmp_path, "f.xlsx", content, sheet="June")[0] == READ
    with pytest.raises(IngestError, match=r'no sheet "Jun" \(did you mean "June"\?\)'):
        read(tmp_path, "f.xlsx", content, sheet="Jun")


def test_a_workbook_that_is_none_or_cannot_be_read_here_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastexcel")
    with pytest.raises(IngestError, match=r"f.xlsx: is not a readable workbook"):
        read(tmp_path, "f.xlsx", b"PK\x03\x04 no more")
    monkeypatch.setitem(sys.modules, "fastexcel", None)
    with pytest.raises(IngestError, match=r'pip install "shopsight\[excel\]", or export the sheet as CSV'):
        read(tmp_path, "f.xlsx", b"PK\x03\x04 no more")


def test_what_excel_leaves_beside_an_open_workbook_is_no_data(tmp_path: Path) -> None:
    for name in ("a.csv", "~$a.xlsx", ".b.csv", "c.xlsx"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in files_of(source(tmp_path, "."))] == ["a.csv", "c.xlsx"]


def _file(folder: Path, content: bytes) -> Path:
    (folder / "f.csv").write_bytes(content)
    return folder / "f.csv"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good file, its sources file, and a key to ingest it with."""
    monkeypatch.setenv("SHOPSIGHT_KEY_FILE", str(tmp_path / "key.json"))
    assert CliRunner().invoke(app, ["key", "create"]).exit_code == 0
    folder, path = tmp_path, "raw"
    (folder / "raw").mkdir()
    (folder / "raw" / "a_good.csv").write_text("o,i,q,p,t\n1,A,1,2.50,2025-06-01\n2,B,1,2.50,2025-06-02\n")
    (folder / "sources.toml").write_text(
        f'format_version = 1\n[[source]]\nname = "s"\nkind = "orders"\npath = "{path}"\nanonymous = true\n'
        '[source.columns]\norder_id = "o"\nitem_id = "i"\nquantity = "q"\nprice = "p"\ntimestamp = "t"\n'
        f'[[source]]\nname = "s"\nkind = "items"\npath = "{path}"\nderived = true\n'
        '[source.columns]\nitem_id = "i"\nprice = "p"\n'
    )
    return folder / "sources.toml"


BAD_FILES = {
    "empty": (b"", "the file is empty"),
    "other": (b"x,y\n1,2\n", 'no column "o" (for order_id)'),
    "image": (b"\x89PNG\r\n\x1a\n", "is not text but a PNG image"),
    "twice": (b"o,i,q,p,t,t\n", 'the header names column "t" 2 times'),
}


@pytest.mark.parametrize("kind", [*BAD_FILES, "damaged"])
@pytest.mark.parametrize("place", ["0_first", "z_last"])
def test_one_bad_file_in_a_folder_is_told_and_does_not_stop_the_others(
    tmp_path: Path, shop: Path, kind: str, place: str
) -> None:
    if kind == "damaged":
        whole = gzip.compress(b"o,i,q,p,t\n" + b"1,A,1,2.50,2025-06-01\n" * 9)
        name, content, says = f"{place}.csv.gz", whole[:-9], "damaged gzip"
    else:
        name, (content, says) = f"{place}.csv", BAD_FILES[kind]
    (tmp_path / "raw" / name).write_bytes(content)
    for _ in range(2):  # the second run finds nothing changed, and the file as bad as before
        result = CliRunner().invoke(app, ["ingest", str(shop), "--workspace", str(tmp_path / "w"), "--json"])
        assert result.exit_code == 1
        report = json.loads(result.stdout)
        assert [says in problem and name in problem for problem in report["unread"]] == [True]
        assert report["read"] == report["accepted"] == 2
    (tmp_path / "raw" / name).unlink()
    result = CliRunner().invoke(app, ["ingest", str(shop), "--workspace", str(tmp_path / "w")])
    assert result.exit_code == 0, result.output


def test_a_header_alone_beside_good_files_is_no_fault(tmp_path: Path, shop: Path) -> None:
    (tmp_path / "raw" / "b.csv").write_text("o,i,q,p,t\n")
    result = CliRunner().invoke(app, ["ingest", str(shop), "--workspace", str(tmp_path / "w"), "--json"])
    assert result.exit_code == 0, result.output
    assert [file["read"] for file in json.loads(result.stdout)["files"]] == [2, 0, 2, 0]


def test_bad_files_alone_write_nothing(tmp_path: Path, shop: Path) -> None:
    for name in ("a_good.csv", "b.csv"):
        (tmp_path / "raw" / name).write_text("")
    result = CliRunner().invoke(app, ["ingest", str(shop), "--workspace", str(tmp_path / "w")])
    assert result.exit_code != 0 and not (tmp_path / "w" / "tables").exists()


def test_the_reference_names_every_reason() -> None:
    text = (Path(__file__).parents[3] / "docs" / "sources.md").read_text(encoding="utf-8")
    for reason, meaning in REASONS.items():
        assert f"| `{reason}` | {meaning} |" in text
