"""One order of day and month for a source, decided on all of its files, and remembered."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.conventions import Convention, Evidence, settle
from shopsight.training.data.cleaning.times import in_repeated_hour
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import IngestReport, ingest
from shopsight.training.data.sources.source import Source
from shopsight.training.data.tables import scan_table

KEY = PseudonymKey("test", b"k" * 32)


def day(folder: Path, name: str, *times: str) -> None:
    rows = [f"{name}{i},c{i},s1,1,1.00,{at}" for i, at in enumerate(times)]
    (folder / f"orders_{name}.csv").write_text("\n".join(["no,who,sku,qty,each,at", *rows]) + "\n")


def read(folder: Path, more: str = "") -> tuple[IngestReport, dict[str, str]]:
    """Ingest the daily files; returns the day of each order."""
    (folder / "sources.toml").write_text(
        f'format_version = 1\n[[source]]\nname = "web"\nkind = "orders"\npath = "orders_*.csv"\n{more}\n'
        '[source.columns]\norder_id = "no"\nsource_id = "who"\nitem_id = "sku"\nquantity = "qty"\n'
        'price = "each"\ntimestamp = "at"\n'
    )
    workspace = Workspace(folder / "w")
    report = ingest(folder / "sources.toml", workspace, KEY)
    events = scan_table(workspace.tables, "events").collect()
    return report, dict(events.select("order_id", pl.col("timestamp").dt.strftime("%Y-%m-%d")).rows())


@pytest.mark.parametrize(("decides", "meant"), [("09/17/2025", "2025-09-05"), ("17/09/2025", "2025-05-09")])
@pytest.mark.parametrize("first", ["a", "z"])
def test_any_file_decides_for_all(tmp_path: Path, decides: str, meant: str, first: str) -> None:
    day(tmp_path, first, "09/05/2025 10:00")
    day(tmp_path, "m", f"{decides} 10:00")
    report, days = read(tmp_path)
    assert days == {f"{first}0": meant, "m0": "2025-09-17"}
    assert any(decides in note and "in all files" in note for note in report.notes)


def test_what_could_be_either_is_refused_with_the_remedy(tmp_path: Path) -> None:
    day(tmp_path, "a", "09/05/2025", "2025-09-06")
    with pytest.raises(IngestError, match=r'"09/05/2025" \(timestamp, orders_a\.csv, row 1\).*date_order ='):
        read(tmp_path)
    assert read(tmp_path, 'date_order = "month_first"')[1]["a0"] == "2025-09-05"
    assert read(tmp_path, 'date_order = "day_first"')[1]["a0"] == "2025-05-09"


@pytest.mark.parametrize(
    ("country", "meant"), [("US", "2025-09-05"), ("DE", "2025-05-09"), ("PH", "2025-09-05")]
)
def test_the_shop_s_country_says_it(tmp_path: Path, country: str, meant: str) -> None:
    day(tmp_path, "a", "09/05/2025")
    report, days = read(tmp_path, f'country = "{country}"')
    assert days == {"a0": meant} and country in report.notes[0]


def test_a_country_that_writes_the_year_first_says_nothing_of_other_dates(tmp_path: Path) -> None:
    day(tmp_path, "a", "09/05/2025")
    with pytest.raises(IngestError, match="can have the day first or the month first"):
        read(tmp_path, 'country = "SE"')


def test_a_decision_is_remembered_when_the_file_that_made_it_is_gone(tmp_path: Path) -> None:
    day(tmp_path, "a", "09/17/2025")
    read(tmp_path)
    (tmp_path / "orders_a.csv").unlink()
    day(tmp_path, "b", "09/05/2025")
    report, days = read(tmp_path)
    assert days == {"b0": "2025-09-05"} and any("earlier files" in note for note in report.notes)


def test_a_later_contradiction_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    day(tmp_path, "a", "09/17/2025")
    read(tmp_path)
    day(tmp_path, "b", "25/09/2025")
    with pytest.raises(
        IngestError, match=r'"25/09/2025" \(timestamp, orders_b.csv, row 1\) can only.*date_order'
    ):
        read(tmp_path)
    (tmp_path / "orders_a.csv").unlink()
    with pytest.raises(IngestError, match="earlier files of the source decided so"):
        read(tmp_path)
    report, days = read(tmp_path, 'date_order = "day_first"')
    assert days == {"b0": "2025-09-25"} and any("read again" in note for note in report.notes)


def test_one_slip_among_hundreds_is_refused_as_a_row_and_decides_nothing(tmp_path: Path) -> None:
    times = [f"{1 + n % 12:02d}/{13 + n % 15:02d}/2025" for n in range(300)]
    day(tmp_path, "a", *times, "25/09/2025", "09/05/2025")
    report, days = read(tmp_path)
    assert report.refused == {"unparsable_date": 1} and days["a301"] == "2025-09-05"


def test_dates_that_say_themselves_how_they_are_written_ask_nothing(tmp_path: Path) -> None:
    day(tmp_path, "a", "2025-09-05", "05.09.2025", "03/03/2025", "5 Sep 2025")
    report, days = read(tmp_path)
    assert report.notes == () and days["a0"] == days["a1"] == days["a3"] == "2025-09-05"


def test_hours_that_clocks_skip_are_refused_and_hours_that_they_repeat_are_told(tmp_path: Path) -> None:
    day(
        tmp_path, "a", "2025-03-30 02:30", "2025-10-26 02:30", "2025-10-26 02:30:00+01:00", "2025-10-26 03:30"
    )
    report, _ = read(tmp_path, 'timezone = "Europe/Berlin"')
    assert report.refused == {"skipped_hour": 1}
    (note,) = report.notes
    assert "1 times are in the hour that clocks in Europe/Berlin repeat" in note


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai"]
)
def test_repeated_hours_are_those_that_the_zone_s_own_rules_find(zone: str) -> None:
    naive = pl.datetime_range(pl.datetime(2025, 1, 1), pl.datetime(2025, 12, 31), "10m", eager=True).alias(
        "t"
    )
    read = [
        naive.dt.replace_time_zone(zone, ambiguous=w, non_existent="null") for w in ("earliest", "latest")
    ]
    early, late = (times.dt.convert_time_zone("UTC") for times in read)
    assert in_repeated_hour(early, zone) == int((early != late).sum())


def test_two_exports_in_one_source_are_a_contradiction() -> None:
    source = Source("web", "orders", "o.csv", Path())
    seen = [
        ("a.csv", Evidence(day_first=5, examples={"day_first": ("timestamp", "25/09/2025", 1)})),
        ("b.csv", Evidence(month_first=4, examples={"month_first": ("timestamp", "09/25/2025", 2)})),
    ]
    with pytest.raises(IngestError, match=r"a\.csv, row 1.*b\.csv, row 2"):
        settle([source], ["csv"], seen, {}, None)


def test_a_program_s_format_has_decimal_points_and_its_numbers_ask_nothing() -> None:
    source = Source("web", "orders", "o.jsonl", Path())
    seen = [("a.jsonl", Evidence(either_amount=3, examples={"either_amount": ("price", "12.345", 1)}))]
    assert settle([source], ["jsonl"], seen, {}, None).convention == Convention(True, ".")
    with pytest.raises(IngestError, match=r'decimal = "\." or ","'):
        settle([source], ["csv"], seen, {}, None)
