"""Who is kept apart though nearly everything agrees, and who is still found to be one person."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from benchmarks.person_records import person_records
from shopsight.training.data.identity.linkage import LinkageConfig, Said, link, pairwise_quality
from shopsight.training.data.identity.linkage.names import grade_names, name_table
from shopsight.training.data.identity.linkage.normalise import normalise
from shopsight.training.data.identity.linkage.placeholders import is_shared_mailbox, without_placeholders

HOME = {"street": "Am Hang 4", "city": "Jena", "postcode": "07743", "phone": "+49 3641 555012"}
Row = dict[str, object]


def row(given: str | None, family: str | None, born: date | None = None, **more: object) -> Row:
    return {"given_name": given, "family_name": family, "birth_date": born, **more}


def are_one(*rows: Row, said: Said | None = None, method: str = "likeness") -> bool:
    """Whether the first two of the accounts become one person, in a shop of these accounts alone."""
    frame = pl.DataFrame(rows, infer_schema_length=None)
    clusters = link(frame, LinkageConfig(method=method), said).clusters  # type: ignore[arg-type]
    return bool(clusters[0] == clusters[1])


OLD, YOUNG = date(1958, 3, 2), date(1990, 11, 12)
TWO_PEOPLE: dict[str, tuple[Row, ...]] = {
    "couple": (
        row("Petra", "Holm", date(1970, 1, 2), email="petra@x.example", **HOME),
        row("Nils", "Holm", date(1968, 7, 9), email="nils@x.example", **HOME),
    ),
    "couple without births": (
        row("Petra", "Holm", email="petra@x.example", **HOME),
        row("Nils", "Holm", email="nils@x.example", **HOME),
    ),
    "couple with one mailbox": (
        row("Petra", "Holm", email="holm@x.example", **HOME),
        row("Nils", "Holm", email="holm@x.example", **HOME),
    ),
    "couple with names of one stem": (
        row("Mario", "Rossi", email="rossi@x.example", **HOME),
        row("Maria", "Rossi", email="rossi@x.example", **HOME),
    ),
    "father and son": (
        row("Otto", "Reiss", OLD, email="otto@x.example", **HOME),
        row("Otto", "Reiss", YOUNG, email="otto.jr@x.example", **HOME),
    ),
    "father and son with one mailbox": (
        row("Otto", "Reiss", OLD, email="reiss@x.example", **HOME),
        row("Otto", "Reiss", YOUNG, email="reiss@x.example", **HOME),
    ),
    "father and son with one card": (
        row("Otto", "Reiss", OLD, loyalty_number="29001", **HOME),
        row("O.", "Reiss", YOUNG, loyalty_number="29001", **HOME),
    ),
    "twins": (
        row("Mia", "Sandberg", YOUNG, email="mia@x.example", **HOME),
        row("Ida", "Sandberg", YOUNG, email="ida@x.example", **HOME),
    ),
    "twins a letter apart with one mailbox": (
        row("Tim", "Sandberg", YOUNG, email="sandberg@x.example", **HOME),
        row("Tom", "Sandberg", YOUNG, email="sandberg@x.example", **HOME),
    ),
    "mother and daughter": (
        row("Anna", "Weber", OLD, email="anna@x.example", **HOME),
        row("Hanna", "Weber", YOUNG, email="hanna@x.example", **HOME),
    ),
    "flatmates": (
        row("Ben", "Cole", OLD, email="ben@x.example", **HOME),
        row("Lars", "Elm", YOUNG, email="lars@x.example", **HOME),
    ),
    "colleagues": (
        row("Ada", "Brink", email="office@firm.example", **HOME),
        row("Ben", "Cole", email="office@firm.example", **HOME),
    ),
    "couple in another script": (
        row("Сергей", "Иванов", email="ivanov@x.example"),
        row("Anna", "Ivanova", email="ivanov@x.example"),
    ),
    "namesakes of one town": (row("Maria", "Garcia", city="Madrid"), row("Maria", "Garcia", city="Madrid")),
    "guests of one placeholder": tuple(
        row(given, family, email="no-reply@shop.example")
        for given, family in (("Ada", "Brink"), ("Ada", "Cole"), ("Ben", "Elm"), ("Cara", "Dunn"))
    ),
    "nameless guests of one placeholder": tuple(row(None, None, email="none@none.example") for _ in range(3)),
    "a phone of nothing but noughts": (
        row("Eva", "Brink", phone="000-0000"),
        row("Eva", "Brink", phone="000-0000"),
    ),
    "father and a namesake without a birth in one mailbox with the son": (
        row("Otto", "Reiss", OLD, email="reiss@x.example", **HOME),
        row("Otto", "Reiss", email="reiss@x.example"),
        row("Otto", "Reiss", YOUNG, email="reiss@x.example", **HOME),
    ),
    "a default date of birth": (
        row("Eva", "Brink", date(1970, 1, 1), city="Jena"),
        row("Eva", "Brink", date(1970, 1, 1), city="Jena"),
    ),
}
ONE_PERSON: dict[str, tuple[Row, ...]] = {
    "a slip in the date": (
        row("Eva", "Brink", date(1985, 7, 1), email="eva@x.example", **HOME),
        row("Eva", "Brink", date(1985, 1, 7), email="eva@x.example", **HOME),
    ),
    "a slip in the given name": (
        row("Marianne", "Brink", OLD, email="a@x.example", **HOME),
        row("Marriane", "Brink", OLD, email="b@x.example", **HOME),
    ),
    "a short form": (
        row("Elizabeth", "Navrátilová", OLD, email="eliska@x.example"),
        row("Liz", "NAVRATILOVA", email="Eliska+shop@x.example"),
    ),
    "another spelling": (row("Jon", "Smyth", email="j@x.example"), row("John", "Smyth", email="j@x.example")),
    "a contact of somebody whose mailbox the household shares": (
        row("Petra", "Holm", OLD, email="holm@x.example", **HOME),
        row("Petra", "Holm", email="holm@x.example"),
        row("Nils", "Holm", YOUNG, email="holm@x.example", **HOME),
    ),
    "a surname changed": (
        row("Eva", "Brink", OLD, email="eva@x.example"),
        row("Eva", "Castellano", OLD, email="eva@x.example"),
    ),
    "another script": (
        row("Сергей", "Иванов", email="s@x.example"),
        row("Sergey", "Ivanov", email="s@x.example"),
    ),
    "names swapped and short": (
        row("Alexander", "Koch", email="koch@x.example"),
        row("Koch", "Alex", email="koch@x.example"),
    ),
    "initials": (row("A.", "Abel", email="abel@x.example"), row("Anna", "Abel", email="abel@x.example")),
    "a dotted mailbox": (
        row("Pia", "Okoro", email="pia.okoro@gmail.com"),
        row("Pia", "Okoro", email="piaokoro@gmail.com"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO_PEOPLE)
def test_two_people_stay_two(name: str) -> None:
    assert not are_one(*TWO_PEOPLE[name])


@pytest.mark.parametrize("name", ONE_PERSON)
def test_one_person_is_found(name: str) -> None:
    assert are_one(*ONE_PERSON[name])


def test_a_placeholder_does_not_switch_the_guard_off_for_others() -> None:
    guests = [
        row(g, f, email="no-reply@x.example") for g in ("Ada", "Ben", "Cara") for f in ("Elm", "Falk")
    ] * 20
    assert not are_one(*TWO_PEOPLE["couple"], *guests)
    assert are_one(*ONE_PERSON["a slip in the date"], *guests)


def test_placeholders_are_found_by_form_and_by_frequency() -> None:
    frame = pl.DataFrame(
        {
            "given_name": ["Ada", "Ben", "Cara", "Dov", "Esa", "n/a"],
            "family_name": ["Elm", "Falk", "Gross", "Hall", "Ito", "Null"],
            "email": [*["till@myshop.example"] * 5, "n/a@x.example"],
            "phone": [*["+49 3641 555012"] * 5, "9999999999"],
            "birth_date": [*[date(1981, 5, 5)] * 5, date(1900, 1, 1)],
        }
    )
    people, ignored = without_placeholders(normalise(frame))
    assert people.select("email", "phone", "birth").null_count().row(0) == (6, 6, 6)
    assert people["given"].to_list() == ["ada", "ben", "cara", "dov", "esa", None]
    assert people["family"].to_list()[-1] == "null", "a family may be called so"
    assert {(p.field, p.reason) for p in ignored} >= {("email", "frequency"), ("email", "form")}
    shared = pl.Series(["office@x.example", "haddad.family@x.example", "ada@x.example"])
    assert is_shared_mailbox(shared).to_list() == [True, True, False]


@pytest.mark.parametrize(
    ("first", "second", "level"),
    [
        *(("jon", "john", 2), ("sophia", "sofia", 2), ("marrie", "marie", 2), ("小明", "xiaoming", 2)),
        *(("liz", "elizabeth", 3), ("j", "john", 3), ("maria elena", "elena", 3), ("小明", "peter", 6)),
        *(("daniel", "daniela", 6), ("tim", "tom", 6), ("anna", "hanna", 6)),
    ],
)
def test_names_are_graded(first: str, second: str, level: int) -> None:
    assert _grade(first, second, False) == level


def test_names_that_many_carry_are_no_slips_of_each_other() -> None:
    assert _grade("korin", "kerin", False) < 6
    assert _grade("korin", "kerin", True) == 6


def test_linkage_can_be_held_to_keys_or_switched_off() -> None:
    alike, by_mail = ONE_PERSON["a slip in the given name"], ONE_PERSON["initials"]
    alike = tuple({k: v for k, v in r.items() if k not in ("phone", "email")} for r in alike)
    others = person_records(300, seed=9)[0].drop("source", "source_id", "registered_at").to_dicts()
    assert are_one(*alike, *others) and not are_one(*alike, *others, method="keys")
    assert are_one(*by_mail, method="keys") and not are_one(*by_mail, method="off")


def test_what_people_said_stands_above_all() -> None:
    pair = np.array([[0, 1]])
    assert not are_one(*ONE_PERSON["initials"], said=Said(apart=pair))
    for method in ("likeness", "off"):
        assert are_one(*TWO_PEOPLE["father and son"], said=Said(same=pair), method=method)


def test_a_chain_does_not_join_two_generations() -> None:
    father, son = TWO_PEOPLE["father and son"]
    between = row("Otto", "Reiss", email="otto@x.example", loyalty_number="29001")
    with_card = son | {"loyalty_number": "29001"}
    assert not are_one(father, with_card, between)


@pytest.mark.parametrize(("share", "seed"), [(0.0, 1), (0.1, 2), (0.4, 3), (0.8, 4)])
def test_the_true_precision_lies_in_the_stated_interval(share: float, seed: int) -> None:
    records, truth = person_records(3_000, household_share=share, seed=seed)
    linkage = link(records)
    quality = pairwise_quality(linkage.clusters, truth)
    print(
        f"households {share:.0%}: {quality.precision:.5f} in {linkage.precision}, recall {quality.recall:.4f}"
    )
    assert linkage.precision.low <= quality.precision <= linkage.precision.high
    assert quality.precision >= 0.995 and quality.recall >= 0.97


def _grade(first: str, second: str, established: bool) -> int:
    levels = grade_names(name_table([first, second]), np.array([0]), np.array([1]), np.array([established]))
    return int(levels[0])
