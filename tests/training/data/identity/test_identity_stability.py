"""Customer ids over many runs: kept, given out once, and every change told with when and why."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from benchmarks.person_records import person_records
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.identity.customer_ids import changes
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.tables import SCHEMAS

KEY = PseudonymKey("test", b"k" * 32)
NOTHING = pl.DataFrame(schema=SCHEMAS["identities"])
NO_SEEN = pl.DataFrame(
    schema={"source": pl.String, "source_id": pl.String, "first_seen": pl.Datetime("us", "UTC")}
)


@pytest.fixture(scope="module")
def runs() -> tuple[Resolution, Resolution, Resolution]:
    """People with households and slips: a first run, one with a tenth more records, and that again."""
    records, _ = person_records(5_500, household_share=0.1, seed=5)
    first = resolve(records.head(5_000), NO_SEEN, NOTHING, KEY)
    second = resolve(records, NO_SEEN, first.identities, KEY)
    return first, second, resolve(records, NO_SEEN, second.identities, KEY)


def test_a_tenth_more_records_leaves_nearly_all_ids(runs: tuple[Resolution, Resolution, Resolution]) -> None:
    first, second, _ = runs
    both = first.customers.join(second.customers, on=["source", "source_id"])
    assert both.height == 5_000
    kept = float((both["customer_id"] == both["customer_id_right"]).mean())  # type: ignore[arg-type]
    alive = first.customers["customer_id"].unique().is_in(second.customers["customer_id"].implode()).mean()
    print(f"accounts that kept their id {kept:.4%}, ids that live on {alive:.4%}")
    assert kept >= 0.999 and float(alive) >= 0.999  # type: ignore[arg-type]


def test_the_same_records_again_change_nothing(runs: tuple[Resolution, Resolution, Resolution]) -> None:
    _, second, third = runs
    assert third.identities.equals(second.identities) and third.facts.equals(second.facts)
    assert third.num_merged == third.num_split == 0


def test_every_change_is_told_with_when_and_why() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)

    def account(source_id: str, **fields: object) -> dict[str, object]:
        row = {"source": "web", "source_id": source_id, "full_name": "Anna Abel", "registered_at": day}
        return {**row, "email": None, "phone": None, **fields}

    one, two = account("1", email="a@x.example"), account("2", email="b@x.example")
    bridge = account(
        "3", email="a@x.example", phone="0171 5550000", registered_at=datetime(2024, 3, 1, tzinfo=UTC)
    )

    def run(*rows: dict[str, object], after: pl.DataFrame = NOTHING) -> Resolution:
        frame = pl.DataFrame(rows, schema_overrides={"phone": pl.String, "email": pl.String})
        return resolve(frame, NO_SEEN, after, KEY)

    first = run(one, two)
    assert changes(first.identities).is_empty()
    met = run(one, {**two, "phone": "0171 5550000"}, bridge, after=first.identities)
    older, younger = sorted(first.customers["customer_id"])
    (merge,) = changes(met.identities).iter_rows(named=True)
    assert (merge["change"], merge["from_id"], merge["to_id"]) == ("merge", younger, older)
    assert merge["at"] == datetime(2024, 3, 1, tzinfo=UTC) and merge["rule"] in ("email", "phone")
    later = {**two, "registered_at": datetime(2024, 5, 1, tzinfo=UTC)}
    apart = run(one, later, bridge, after=met.identities)
    _, split = changes(apart.identities).iter_rows(named=True)
    assert (split["change"], split["from_id"], split["rule"]) == ("split", older, "single")
    assert split["to_id"] not in (older, younger) and split["at"] == datetime(2024, 5, 1, tzinfo=UTC)


def test_an_id_is_given_out_once_even_when_its_customer_is_gone() -> None:
    def people(*names: str) -> pl.DataFrame:
        rows = [{"source": "web", "source_id": n, "email": f"{n}@x.example"} for n in names]
        return pl.DataFrame(rows)

    first = resolve(people("ann", "bob", "cat"), NO_SEEN, NOTHING, KEY)
    last = max(first.customers["customer_id"])
    gone = first.customers.filter(pl.col("customer_id") == last)["source_id"].item()
    left = [name for name in ("ann", "bob", "cat") if name != gone]
    absent = resolve(people(*left, "dan"), NO_SEEN, first.identities, KEY)
    assert last not in set(absent.customers["customer_id"]) and max(absent.customers["customer_id"]) > last
    back = resolve(people(*left, "dan", gone), NO_SEEN, absent.identities, KEY)
    assert back.customers.filter(pl.col("source_id") == gone)["customer_id"].item() == last
    erased = first.identities.filter(pl.col("customer_id") != last)
    after = resolve(people(*left, "dan"), NO_SEEN, erased, KEY, retired={last})
    assert max(after.customers["customer_id"]) > last and last not in set(after.customers["customer_id"])
