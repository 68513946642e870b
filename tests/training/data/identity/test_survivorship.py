"""Which value of a customer survives, by which rule, and from which account it came."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.data.errors import IngestError
from shopsight.training.data.identity.config import IdentityConfig, load_identity_config
from shopsight.training.data.identity.resolve import Resolution, resolve
from shopsight.training.data.identity.survivorship import Survivorship
from shopsight.training.data.sources.load import load_sources
from shopsight.training.data.tables import SCHEMAS

KEY = PseudonymKey("test", b"k" * 32)
NOTHING = pl.DataFrame(schema=SCHEMAS["identities"])
NO_SEEN = pl.DataFrame(
    schema={"source": pl.String, "source_id": pl.String, "first_seen": pl.Datetime("us", "UTC")}
)
ACCOUNTS = [
    ("web", "w", 1, "Leipzig", "DE", "04109", date(1980, 5, 1)),
    ("app", "a", 2, "leipzig ", "DE", None, date(1970, 1, 1)),
    ("store", "s", 3, "Frankfurt am Main", "AT", "60311", date(1980, 2, 2)),
    ("social", "x", 4, "  ", None, "N1 9GU", date(1066, 10, 14)),
]


def resolved(**rules: Any) -> Resolution:
    """One person with four accounts, registered a month apart."""
    rows = [
        {
            "source": source, "source_id": source_id, "full_name": "Ann Abel", "loyalty_number": "77",
            "registered_at": datetime(2024, month, 1, tzinfo=UTC),
            "city": city, "country": country, "postcode": postcode, "birth_date": born,
        }
        for source, source_id, month, city, country, postcode, born in ACCOUNTS
    ]  # fmt: skip
    config = IdentityConfig(survivorship=Survivorship(**rules) if rules else Survivorship())
    found = resolve(pl.DataFrame(rows), NO_SEEN, NOTHING, KEY, config)
    assert found.num_customers == 1
    return found


def fact(found: Resolution, name: str) -> dict[str, Any]:
    return found.facts.filter(pl.col("field") == name).row(0, named=True)


@pytest.mark.parametrize(
    ("rule", "value", "source"),
    [
        ("most_recent", "Frankfurt am Main", "store"),
        ("first", "Leipzig", "web"),
        ("most_frequent", "leipzig", "app"),  # in two ways of writing; the later one is kept
        ("most_trusted", "Leipzig", "web"),
        ("longest", "Frankfurt am Main", "store"),
    ],
)
def test_each_rule_keeps_its_value_and_says_whose_it_is(rule: str, value: str, source: str) -> None:
    city = fact(resolved(rules={"city": rule}, trust=("reviews", "web", "store")), "city")
    assert (city["value"], city["source"], city["rule"]) == (value, source, rule)
    source_id, month = {s: (i, m) for s, i, m, *_ in ACCOUNTS}[source]
    assert city["source_id"] == KEY.pseudonym(source, source_id) and city["key_id"] == "test"
    assert city["since"] == datetime(2024, month, 1, tzinfo=UTC)


def test_empty_and_impossible_values_never_survive_and_a_postcode_keeps_its_area_alone() -> None:
    found = resolved()
    assert fact(found, "birth_year")["value"] == "1980"
    assert fact(found, "country")["value"] == "DE"
    assert (fact(found, "postcode_area")["value"], fact(found, "postcode_area")["source"]) == ("N1", "social")
    assert set(found.facts["field"]) == {"country", "city", "birth_year", "postcode_area"}
    assert dict(found.facts.schema) == SCHEMAS["facts"]


def test_the_key_has_no_say_in_who_survives() -> None:
    rows = [
        {
            "source": "web",
            "source_id": str(n),
            "full_name": "Ann Abel",
            "loyalty_number": "7",
            "city": f"City {n}",
        }
        for n in range(9)
    ]
    frame = pl.DataFrame(rows)
    kept = {
        resolve(frame, NO_SEEN, NOTHING, PseudonymKey("k", bytes([n]) * 32)).facts["value"].item()
        for n in range(6)
    }
    assert kept == {"City 0"}


def write(folder: Path, identity: str) -> Path:
    path = folder / "sources.toml"
    source = (
        '[[source]]\nname = "web"\nkind = "customers"\npath = "a.csv"\n[source.columns]\nsource_id = "id"\n'
    )
    path.write_text(f"format_version = 1\n{identity}\n{source}")
    return path


def test_rules_are_stated_in_the_sources_file(tmp_path: Path) -> None:
    text = (
        '[identity]\nmin_precision = 0.995\ntrust = ["store", "web"]\n[identity.survivorship]\ncity = "first"'
    )
    path = write(tmp_path, text)
    config = load_identity_config(path)
    assert config.linkage.min_precision == 0.995 and config.linkage.threshold is None
    assert config.survivorship.rules["city"] == "first" and config.survivorship.trust == ("store", "web")
    assert config.survivorship.rules["country"] == "most_frequent" and len(load_sources(path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[identity]\ntresholds = 0.9', r'unknown key "tresholds" \(did you mean "threshold"'),
        ('[identity]\nthreshold = 99', "threshold is 99, expected a number between 0 and 1"),
        ('[identity]\ntrust = "store"', "identity.trust is 'store', expected a list"),
        ('[identity.survivorship]\nemail = "first"', 'unknown fact "email"'),
        ('[identity.survivorship]\ncity = "recent"', 'city = "recent" .did you mean "most_recent"'),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_with_the_right_ones(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(IngestError, match=message):
        load_identity_config(write(tmp_path, text))
