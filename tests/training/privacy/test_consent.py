"""Consent per purpose: who forbids is not learned from, and is answered as nobody."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.serving.routing.recommend import RecommendRouter
from shopsight.serving.routing.rows import Row
from shopsight.training import recommend
from shopsight.training.artifacts.goldens import member
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.consent import (
    LANGUAGE,
    MARKETING,
    PERSONALISATION,
    PROFILING,
    forbidden,
    permitted,
)
from shopsight.training.data.errors import IngestError
from shopsight.training.data.ingest import ingest
from shopsight.training.data.tables import SCHEMAS, scan_table, write_tables
from shopsight.training.privacy.people import find_person
from shopsight.training.profiles.config import ProfilesConfig
from shopsight.training.profiles.features import Tables, compute, fit_spec
from shopsight.training.recommend import RecommendConfig
from shopsight.training.recommend.checkpoint import load
from shopsight.training.report.content import messages
from tests.training.privacy.raw_shop import SOURCES, write_raw
from tests.training.small_shop import START, table, tastes_shop

KEY = PseudonymKey("test", b"k" * 32)
END = START + timedelta(days=200)
SMALL = RecommendConfig(
    factors=4, iterations=3, unobserved_weights=(0.1,), regularizations=(0.1,), test_days=15.0,
    num_bootstraps=20, num_popular=5,
)  # fmt: skip


def say(workspace: Workspace, *said: tuple[str | None, str, bool, float]) -> None:
    """Write the consents table: (customer, purpose, allowed, days after START)."""
    rows: list[dict[str, Any]] = [
        {"customer_id": who, "purpose": purpose, "allowed": allowed, "timestamp": START + timedelta(days=day)}
        for who, purpose, allowed, day in said
    ]
    write_tables(workspace.tables, {"consents": table("consents", rows)})


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    return tastes_shop(tmp_path)


def first_customers(workspace: Workspace, count: int) -> list[str]:
    busy = scan_table(workspace.tables, "events").group_by("customer_id").len().sort("len", "customer_id")
    return busy.collect()["customer_id"].tail(count).to_list()


def test_the_latest_word_counts_and_at_one_time_the_no(shop: Workspace) -> None:
    one, two, three = first_customers(shop, 3)
    say(
        shop,
        (one, MARKETING, False, 1.0), (one, MARKETING, True, 2.0),
        (two, MARKETING, True, 1.0), (two, MARKETING, False, 1.0),
        (three, PERSONALISATION, False, 1.0),
    )  # fmt: skip
    assert forbidden(shop, MARKETING) == [two]
    assert forbidden(shop, PERSONALISATION) == [three]


def test_silence_is_consent_unless_the_shop_says_otherwise(shop: Workspace) -> None:
    everybody = sorted(scan_table(shop.tables, "customers").collect()["customer_id"].to_list())
    assert forbidden(shop, MARKETING) == []
    say(shop, (None, MARKETING, False, 0.0), (everybody[3], MARKETING, True, 1.0))
    assert forbidden(shop, MARKETING) == [c for c in everybody if c != everybody[3]]


def test_rows_without_a_customer_stay(shop: Workspace) -> None:
    events = scan_table(shop.tables, "events").collect()
    (who,) = first_customers(shop, 1)
    nameless = events.head(1).with_columns(pl.lit(None, dtype=pl.String).alias("customer_id"))
    write_tables(shop.tables, {"events": pl.concat([events, nameless])})
    say(shop, (who, PERSONALISATION, False, 1.0))
    left = permitted(shop, "events", PERSONALISATION).collect()
    assert left["customer_id"].null_count() == 1 and who not in left["customer_id"].to_list()
    assert left.height == events.height + 1 - events.filter(pl.col("customer_id") == who).height


def test_nothing_is_learned_from_who_forbids_and_they_get_what_everybody_gets(
    shop: Workspace, tmp_path: Path
) -> None:
    who, other = first_customers(shop, 2)
    say(shop, (who, PERSONALISATION, False, 1.0))
    recommend.train(shop, SMALL, lambda _: None)
    recommend.export(shop, SMALL)

    silent = tastes_shop(tmp_path / "silent")
    events = scan_table(silent.tables, "events").filter(pl.col("customer_id") != who).collect()
    write_tables(silent.tables, {"events": events})
    recommend.train(silent, SMALL, lambda _: None)
    ours, theirs = load(shop).final, load(silent).final
    np.testing.assert_array_equal(np.asarray(ours.item_factors), np.asarray(theirs.item_factors))

    folder = shop.models / "recommend"
    router = RecommendRouter(folder, "1")
    ask = member(shop.models / "mf_retrieval" / "model.onnx")
    item = load(shop).catalogue.item_ids[0].encode()
    history = {
        "HISTORY_ITEM": np.array([item], dtype=np.object_),
        "HISTORY_EVENT": np.array([b"purchase"], dtype=np.object_),
    }
    names = [{"CUSTOMER_ID": np.array([c.encode()], dtype=np.object_)} for c in (who, other, "nobody")]
    answers = router.answer([Row({**names[0], **history}), Row(names[1]), Row(names[2])], ask)
    reasons = [set(answer["REASON_CODE"]) for answer in answers if isinstance(answer, dict)]
    assert reasons == [{b"popular"}, {b"personal"}, {b"popular"}]
    assert isinstance(answers[0], dict) and isinstance(answers[2], dict)
    assert answers[0]["ITEM_ID"].tolist() == answers[2]["ITEM_ID"].tolist()


CONSENTS = """
[[source]]
name = "app"
kind = "consents"
path = "consents.csv"
[source.columns]
source_id = "device"
purpose = "what"
allowed = "may"
timestamp = "at"
"""


def test_consents_are_read_from_raw_files_and_a_misspelt_purpose_is_refused(tmp_path: Path) -> None:
    sources = write_raw(tmp_path / "raw", 6)
    head, rest = SOURCES.split("\n", 1)
    sources.write_text(
        f"{head}\n[consent_default]\nmarketing = false\n[identity]\nmin_precision = 0.99\n{rest}{CONSENTS}",
        encoding="utf-8",
    )
    (sources.parent / "consents.csv").write_text(
        "device,what,may,at\n"
        "A00001,marketing,Yes,2025-01-02 10:00:00\n"
        "A00002,profiling,0,2025-01-02 10:00:00\n"
        "A00002,profilling,0,2025-01-02 10:00:00\n"
        "A00003,language,perhaps,2025-01-02 10:00:00\n",
        encoding="utf-8",
    )
    workspace = Workspace(tmp_path / "workspace")
    report = ingest(sources, workspace, KEY)
    assert report.refused["bad_value"] == 6 + 2  # a word for a price in each person's orders
    who = [find_person(workspace, KEY, "web", f"W{p:05d}").customer_ids[0] for p in range(6)]
    assert forbidden(workspace, MARKETING) == sorted(set(who) - {who[1]})
    assert forbidden(workspace, "profiling") == [who[2]] and forbidden(workspace, "language") == []
    sources.write_text(f"{head}\n[consent_default]\nmarketting = false\n{rest}", encoding="utf-8")
    with pytest.raises(IngestError, match=r'unknown purpose "marketting" \(did you mean'):
        ingest(sources, workspace, KEY)


def test_who_forbids_profiling_or_language_is_not_in_features_or_corpus(shop: Workspace) -> None:
    one, two = first_customers(shop, 2)
    say(shop, (one, PROFILING, False, 1.0), (two, LANGUAGE, False, 1.0))
    said = [
        {"message_id": f"m-{who}", "customer_id": who, "text": f"a text of {who}", "timestamp": START}
        for who in (one, two)
    ]
    write_tables(shop.tables, {"messages": table("messages", said)})
    measured = Tables.of(shop)
    assert measured.messages.collect()["customer_id"].to_list() == [two]
    spec = fit_spec(measured, as_of=END, config=ProfilesConfig())
    ids = compute(measured, spec, END)["customer_id"].to_list()
    assert one not in ids and two in ids
    assert permitted(shop, "messages", LANGUAGE).collect()["customer_id"].to_list() == [one]


def test_the_page_reads_no_message_of_who_forbids_it(shop: Workspace) -> None:
    one, two, three = first_customers(shop, 3)
    said = [
        {"message_id": f"m-{who}", "customer_id": who, "text": f"a text of {who}", "timestamp": START}
        for who in (one, two, three)
    ]
    intents = [(f"m-{who}", "intent", f"topic_{who}", None) for who in (one, two, three)]
    labels = pl.DataFrame(intents, schema=SCHEMAS["labels"], orient="row")
    write_tables(shop.tables, {"messages": table("messages", said), "labels": labels})
    say(shop, (two, LANGUAGE, False, 1.0))
    page = str(messages(shop))
    assert "The latest 2 messages" in page
    assert [f"topic {who}" in page for who in (one, two, three)] == [True, False, True]
    say(shop, (None, LANGUAGE, False, 1.0))
    assert messages(shop)["intent_plot"] == ""
