"""A stray quote costs its own line: whatever dirt there is, every clean row comes out as it went in."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopsight.training.data.reading.readers import read_chunks
from shopsight.training.data.sources.source import Source

COLUMNS = ("order_id", "line_no", "customer_id", "title", "quantity", "unit_price", "ordered_at")
TITLES = [
    "Mug", "Oak shelf, wide", 'Shelf 24" oak', 'He said "fine", and left', "Two\nlines",
    "Three\n\nlines, of\ntext", "Größe XL", "茶杯, 蓝色", "C:\\temp\\", "", " spaced ", '"', '""', "a;b",
    "tab\tin", "'quoted'", "1,299.00",
]  # fmt: skip


def source(folder: Path, columns: tuple[str, ...] = COLUMNS, **how: object) -> Source:
    mapped = dict(zip(FIELDS, columns, strict=False))
    return Source(name="s", kind="orders", path="f.csv", base=folder, columns=mapped, **how)  # type: ignore[arg-type]


FIELDS = ("order_id", "line_id", "source_id", "item_id", "quantity", "price", "timestamp", "currency")


def read(
    folder: Path, content: bytes, columns: tuple[str, ...] = COLUMNS, **how: object
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The rows that were read, those that were refused, and how many there are."""
    path = folder / "f.csv"
    path.write_bytes(content)
    chunks = list(read_chunks(source(folder, columns, **how), path))
    rows = pl.concat([chunk.rows for chunk in chunks]).drop("hi", "lo")
    refused = pl.concat([chunk.refused for chunk in chunks]).sort("row")
    return rows, refused, sum(chunk.num_read for chunk in chunks)


def written(rows: list[list[str]], quoting: str, backslash: bool, end: str) -> list[bytes]:
    """Each row as a program writes it, its line end included."""
    lines = []
    for row in rows:
        fields = []
        for field in row:
            text = field
            if quoting == "all" or (quoting == "text" and not field.isdigit()) or set(field) & set('",\n'):
                inner = field.replace('"', '\\"' if backslash else '""')
                text = f'"{inner}\\"' if backslash and field.endswith("\\") else f'"{inner}"'
            fields.append(text)
        lines.append(",".join(fields).encode() + end.encode())
    return lines


def clean_row(rng: random.Random, i: int) -> list[str]:
    day = f"2025-06-{rng.randrange(1, 29):02d} {rng.randrange(24):02d}:00:00"
    price = f"{rng.randrange(1, 99)}.{rng.randrange(100):02d}"
    return [
        f"O{i}",
        str(i),
        f"C{rng.randrange(99)}",
        rng.choice(TITLES),
        str(rng.randrange(1, 5)),
        price,
        day,
    ]


def dirt(rng: random.Random, line: bytes, end: bytes) -> bytes:
    """A line spoilt in one way: the quotes that exports get wrong, bytes lost, added or altered."""
    body = line.removesuffix(end).replace(b"\n", b" ").replace(b"\r", b" ")
    fields = body.split(b",")
    at, field = rng.randrange(len(body)), rng.randrange(len(fields))
    ways = [
        body[:at] + b'"' + body[at:],
        body[:at] + b'\\"' + body[at:],
        body.replace(b'"', b"", 1),
        body[:at],
        body[at:],
        body[:at] + rng.choice([b"\xff", b"\x00", b",", b'",', b',"', b'"""']) + body[at + 1 :],
        b",".join([*fields[:field], b'"' + fields[field], *fields[field + 1 :]]),
        b",".join([*fields[:field], fields[field] + b'"', *fields[field + 1 :]]),
        body + b",extra",
        b",".join(fields[: max(1, field)]),
        b'"',
        b"Total,,,,9,99.00,",
    ]
    return (rng.choice(ways) or b'"') + end


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.01, 0.05]),
    quoting=st.sampled_from(["minimal", "all", "text"]),
    backslash=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    block=st.sampled_from([3_000, 12 << 20]),
)
def test_dirt_changes_no_other_row(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int, share: float, quoting: str, backslash: bool, end: str, block: int,
) -> None:  # fmt: skip
    rng = random.Random(seed)
    rows = [clean_row(rng, i) for i in range(400)]
    lines = written(rows, quoting, backslash, end)
    spoilt = {i for i in range(400) if rng.random() < share}
    content = ",".join(COLUMNS).encode() + end.encode()
    content += b"".join(
        dirt(rng, line, end.encode()) if i in spoilt else line for i, line in enumerate(lines)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shopsight.training.data.reading.records.BLOCK_BYTES", block)
        found, refused, num_read = read(tmp_path_factory.mktemp("dirt"), content)
    assert found.height + refused.height == num_read
    assert pl.concat([found["row"], refused["row"]]).sort().to_list() == list(range(1, num_read + 1))
    wanted = [tuple(row) for i, row in enumerate(rows) if i not in spoilt]
    order = dict.fromkeys(tuple(v or "" for v in row) for row in found.drop("row").iter_rows())
    missing = [row for row in wanted if row not in order]
    assert missing == [], (len(missing), sorted(spoilt))
    assert [row for row in order if row in set(wanted)] == wanted


HEAD = b"o,l,c,title,q,p,t\n"
CLEAN = [f"O{i},{i},C{i},Mug {i},1,9.50,2025-06-01 10:00:00" for i in range(60)]


@pytest.mark.parametrize(
    ("one", "two", "refused"),
    [
        ('O,1,C,"Shelf 24\\" oak",1,9.50,2025-06-01', 'O,1,C,"Tube 3\\" steel",1,9.50,2025-06-01', {}),
        ('O,1,C,"Shelf 24" oak",1,9.50,2025-06-01', 'O,1,C,"Tube 3" st, eel",1,9.50,2025-06-01',
         {"stray_quote": 2}),
        ('O,1,C,"Vase, blue,1,9.50,2025-06-01', 'O,1,C,Vase 2",1,9.50,2025-06-01', {"unclosed_quote": 1}),
        ('O,1,C,"Va', 'O,1,C,Pipe, 3",1,9.50,2025-06-01', {"unclosed_quote": 1, "malformed_row": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gap", [0, 1, 50])
def test_two_stray_quotes_take_no_line_between_them(
    tmp_path: Path, one: str, two: str, refused: dict[str, int], gap: int
) -> None:
    quoted = 'O,1,C,"Lamp, ""Nova""",1,9.50,2025-06-01'  # the file does quote what needs it
    lines = [quoted, *CLEAN[:5], one, *CLEAN[5 : 5 + gap], two, *CLEAN[55:]]
    columns = tuple(HEAD.decode().strip().split(","))
    found, bad, num_read = read(tmp_path, HEAD + "\n".join(lines).encode(), columns=columns)
    assert num_read == len(lines)
    assert dict(bad.group_by("reason").len().iter_rows()) == refused
    clean = [line for line in lines if line in CLEAN]
    assert [",".join(row) for row in found.drop("row").iter_rows() if ",".join(row) in CLEAN] == clean


BODIES = [
    "Fine", "Warm.\nAgain, 10/10", "Soft\nGood, and warm, and light", "a, b\n\nc,d, e",
    'He said: "no"\nx, "y"',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("filled", [0, 2, 9])
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_text_of_several_lines_is_read_in_a_file_of_few_rows(
    tmp_path: Path, body: str, filled: int, at: int, quoting: int
) -> None:
    """The first row has what no other has, so few rows do not tell what its columns look like."""
    names = ("title", "body", "rating", "at", "reply", "replied", "place", "a", "b", "c")
    names = (*names[2 : 2 + at], *names[:2], *names[2 + at :])
    first = {"title": "Great!", "body": body, "rating": "5", "at": "2025-05-02 08:30:00 UTC"}
    first |= {"reply": "Thanks, Ivo!", "replied": "2025-05-03", "place": "Oslo"}
    others = [
        {"title": title, "body": f"Number {i}", "rating": "4", "at": "2025-05-02 10:30:00 UTC"}
        for i, title in zip(range(filled), ["", "Spam", "Store review"] * 3, strict=False)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, quoting=quoting, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows([*others[:1], first, *others[1:]])
    columns = ("title", "body", "rating", "at", "reply")
    found, bad, _ = read(tmp_path, text.getvalue().encode(), columns=columns)
    assert bad.is_empty() and found.height == filled + 1
    read_first = found.rows()[min(filled, 1)][1:]
    assert tuple(value or "" for value in read_first) == tuple(first[name] for name in columns)


def test_a_file_that_quotes_nothing_keeps_its_quotes(tmp_path: Path) -> None:
    titles = ['"Alpine" blanket', '5" pipe', '"', 'Wool "Alpine" 5" hem', "plain"]
    lines = [f"O{i}\t{i}\tC\t{title}\t1\t9.5\t2025-06-01" for i, title in enumerate(titles)]
    content = HEAD.replace(b",", b"\t") + "\n".join(lines).encode()
    found, bad, _ = read(tmp_path, content, columns=tuple(HEAD.decode().strip().split(",")))
    assert found["item_id"].to_list() == titles and bad.is_empty()
    found, bad, _ = read(
        tmp_path, content, columns=tuple(HEAD.decode().strip().split(",")), quoting="doubled"
    )
    assert bad["reason"].to_list() == ["stray_quote", "unclosed_quote"]


def test_the_kind_of_quotes_that_was_found_is_told(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text('a,b\n1,"Shelf 24\\" oak"\n2,x\n')
    how = source(tmp_path, ("a", "b"))
    (chunk,) = read_chunks(how, tmp_path / "f.csv")
    assert chunk.rows["line_id"].to_list() == ['Shelf 24" oak', "x"]
    assert chunk.notes == ('quotes inside fields are written \\" (quoting = "backslash")',)


def test_lines_and_rows_are_counted_apart_from_the_parser(tmp_path: Path) -> None:
    text = "word\n" * 80
    content = f'a,b\n1,"{text}"\n\n2,x\n'.encode()
    (tmp_path / "f.csv").write_bytes(content)
    (chunk,) = read_chunks(source(tmp_path, ("a", "b")), tmp_path / "f.csv")
    assert chunk.extent is not None and chunk.num_read == 2
    assert (chunk.extent.lines, chunk.extent.blank, chunk.extent.joined) == (83, 1, 80)
    assert chunk.extent.doubts(2) == [
        f"row 1 is 81 lines and {len(text) + 4} bytes long; look whether a quote is missing before it"
    ]
    assert "83 lines after the header are not 3 rows" in chunk.extent.doubts(3)[0]
