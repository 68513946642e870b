"""Compares the answers of the running endpoint with the synthetic shop's truth.

Only this module reads the truth; it runs after everything is trained, published and served.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shopsight.serving.client import ShopsightClient
from shopsight.serving.progress import Progress
from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.shop.truth import future_availability, propensities
from shopsight.training.data.tables import scan_table
from shopsight.training.evaluation.planted import (
    Row,
    bad_rows_row,
    churn_row,
    experiment_row,
    funnel_row,
    identity_row,
    labels_row,
    recall_at_k,
    recommendations_row,
    segments_row,
)

K = 10
NUM_ASKED = 1_500  # customers, and messages, that the endpoint is asked about
_DEADLINE_SECONDS = 30.0
_CONCURRENCY = 8

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class RunningServer(Protocol):
    """Interface of the server: its address."""

    @property
    def grpc_url(self) -> str: ...


@dataclass(frozen=True)
class Truth:
    """The planted truth with hashed identifiers, and the customer of each planted person."""

    folder: Path
    identities: pl.DataFrame  # source, source_id (keyed hash), person_id
    customers: pl.DataFrame  # person_id, customer_id: where most of the person's accounts ended

    @staticmethod
    def read(folder: Path, workspace: Workspace, key: PseudonymKey) -> Truth:
        """Read identities from `folder` and match them with the workspace's."""
        identities = pl.read_parquet(folder / "identities.parquet")
        hashed = [
            key.pseudonym(source, source_id)
            for source, source_id in identities.select("source", "source_id").iter_rows()
        ]
        identities = identities.with_columns(source_id=pl.Series(hashed, dtype=pl.String))
        known = _current_identities(workspace)
        customers = (
            identities.join(known, on=["source", "source_id"])
            .group_by("person_id", "customer_id").len()
            .sort("person_id", "len", "customer_id", descending=[False, True, False])
            .unique("person_id", keep="first", maintain_order=True)
            .select("person_id", "customer_id")
        )  # fmt: skip
        return Truth(folder, identities, customers)


def planted_against_found(
    folder: Path,
    workspace: Workspace,
    key: PseudonymKey,
    server: RunningServer,
    progress: Progress,
) -> list[Row]:
    """Score identity, segments, churn, recommendations, language, bad rows, the experiment and the funnel."""
    truth = Truth.read(folder, workspace, key)
    rows = [identity_row(truth.identities, _current_identities(workspace))]
    with ShopsightClient(server.grpc_url, deadline_seconds=_DEADLINE_SECONDS) as client:
        progress("asking profile")
        rows.append(_segments(truth, client))
        rows.append(_churn(truth, workspace, client))
        progress("asking recommend")
        rows.append(_recommendations(truth, workspace, client))
        progress("asking understand")
        rows += _language(truth, workspace, client)
        progress("asking insight")
        rows.append(_insight(truth, client))
    rows.append(_bad_rows(folder, workspace))
    rows.append(_experiment(folder, workspace))
    rows.append(_funnel(folder, workspace))
    return rows


def _segments(truth: Truth, client: ShopsightClient) -> Row:
    people = pl.read_parquet(truth.folder / "people.parquet", columns=["person_id", "persona"])
    asked = (
        people.join(truth.customers, on="person_id")
        .sort("person_id")
        .unique("customer_id", maintain_order=True)
    )
    asked = asked.sample(min(2 * NUM_ASKED, asked.height), seed=0)
    found = _ask(
        lambda customer: client.profile(customer_id=customer).segment, asked["customer_id"].to_list()
    )
    return segments_row(asked, pl.DataFrame({"customer_id": asked["customer_id"], "segment": found}))


def _churn(truth: Truth, workspace: Workspace, client: ShopsightClient) -> Row:
    """Return the customers with purchases in the raw data, and whether they bought in the weeks after it."""
    buyers = (
        scan_table(workspace.tables, "events").filter(pl.col("event") == "purchase").select("customer_id")
    )
    people = truth.customers.unique("customer_id").join(buyers.unique().collect(), on="customer_id")
    asked = people.sort("person_id").sample(min(NUM_ASKED, people.height), seed=0)
    told = _ask(
        lambda customer: client.profile(customer_id=customer).forecast, asked["customer_id"].to_list()
    )
    # Some returned everything: they count as customers without purchases and have no forecast.
    kept = np.array([forecast is not None for forecast in told])
    future = pl.read_parquet(truth.folder / "future_purchases.parquet", columns=["person_id"])
    bought = asked["person_id"].is_in(future["person_id"].unique().to_list()).to_numpy()
    return churn_row(np.array([one.churn for one in told if one is not None]), bought[kept])


def _recommendations(truth: Truth, workspace: Workspace, client: ShopsightClient) -> Row:
    events = scan_table(workspace.tables, "events").filter(pl.col("event") == "purchase")
    bought = dict(
        events.group_by("customer_id")
        .agg(pl.col("item_id").unique())
        .drop_nulls("customer_id")
        .collect()
        .iter_rows()
    )
    future = pl.read_parquet(truth.folder / "future_purchases.parquet").join(truth.customers, on="person_id")
    wanted_by = future.group_by("person_id", "customer_id").agg(pl.col("item_id").unique()).sort("person_id")
    people, customers, wanted = [], [], []
    for person, customer, items in wanted_by.iter_rows():
        new = set(items) - set(bought.get(customer, ()))
        if new and customer in bought:
            people.append(person)
            customers.append(customer)
            wanted.append(new)
    chosen = np.random.default_rng(0).permutation(len(people))[:NUM_ASKED]
    people, customers, wanted = ([values[i] for i in chosen] for values in (people, customers, wanted))
    past = [set(bought[customer]) for customer in customers]

    def recommended(customer: str) -> Sequence[str]:
        exclude = bought[customer]
        return client.recommend(customer_id=customer, exclude=exclude, k=K).items

    found = recall_at_k(_ask(recommended, customers), wanted, K)
    popular = (
        events.group_by("item_id").len().sort("len", "item_id", descending=[True, False]).collect()["item_id"]
    )
    most_popular = popular.to_list()
    lists = [_first_new(most_popular, seen) for seen in past]
    best = recall_at_k(_best_lists(truth, people, past), wanted, K)
    return recommendations_row(found, recall_at_k(lists, wanted, K), best, len(people))


def _best_lists(truth: Truth, people: Sequence[str], past: Sequence[set[str]]) -> list[list[str]]:
    items = pl.read_parquet(truth.folder / "items.parquet")
    factors = pl.read_parquet(truth.folder / "people.parquet", columns=["person_id", "factor"])
    mine = pl.DataFrame({"person_id": people}).join(
        factors, on="person_id", how="left", maintain_order="left"
    )
    scores = propensities(mine["factor"], items) * future_availability(items)
    ids = np.array(items["item_id"].to_list(), dtype=object)
    return [_first_new(ids[np.argsort(-row)], seen) for row, seen in zip(scores, past, strict=True)]


def _first_new(ranked: Sequence[str] | NDArray[Any], seen: set[str]) -> list[str]:
    chosen = []
    for item in ranked:
        if item not in seen:
            chosen.append(str(item))
            if len(chosen) == K:
                break
    return chosen


def _language(truth: Truth, workspace: Workspace, client: ShopsightClient) -> list[Row]:
    planted = pl.read_parquet(truth.folder / "messages.parquet")
    labelled = scan_table(workspace.tables, "labels").select("message_id").unique().collect()
    texts = scan_table(workspace.tables, "messages").select("message_id", "text").collect()
    unlabelled = planted.filter(pl.col("intent").is_not_null()).join(labelled, on="message_id", how="anti")
    known = (
        scan_table(workspace.tables, "labels")
        .filter(pl.col("task") == "intent")
        .select("label")
        .unique()
        .collect()
    )
    asked = unlabelled.join(texts, on="message_id").filter(pl.col("intent").is_in(known["label"].implode()))
    asked = asked.sort("message_id").sample(min(NUM_ASKED, asked.height), seed=0)
    answers = _ask(client.understand, asked["text"].to_list())
    intents, sentiments = [a.intent for a in answers], [str(a.sentiment) for a in answers]
    return [
        labels_row("intent, English and Chinese", asked["intent"].to_list(), intents, 0.90),
        labels_row("sentiment, English and Chinese", asked["sentiment"].to_list(), sentiments, 0.80),
    ]


def _insight(truth: Truth, client: ShopsightClient) -> Row:
    customer = truth.customers.sort("person_id")["customer_id"][0]
    answer = client.insight(
        customer_id=customer, text="Where is my parcel? It should have been here on Monday."
    )
    parts = [part for part in ("profile", "recommendations", "understanding") if answer.get(part)]
    return Row(
        name="insight, one answer of all models",
        planted="profile, recommendations, understanding of one release",
        found=f"{', '.join(parts)} of release {answer['release']}",
        passed=len(parts) == 3,
    )


def _bad_rows(folder: Path, workspace: Workspace) -> Row:
    planted = pl.read_parquet(folder / "bad_rows.parquet").select(
        "file", pl.col("row").cast(pl.Int64), "reason"
    )
    refused = pl.read_parquet(workspace.quarantine / "*.parquet", glob=True)
    name = pl.col("file").str.split("/").list.last()
    return bad_rows_row(planted, refused.select(name, pl.col("row").cast(pl.Int64), "reason").unique())


def _experiment(folder: Path, workspace: Workspace) -> Row:
    from shopsight.training.experiments.ab_test import analyse

    planted = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["expected_metric"]
    found = analyse(workspace, None, channel="web")
    return experiment_row(planted["treatment"] - planted["control"], found.effect, found.low, found.high)


def _funnel(folder: Path, workspace: Workspace) -> Row:
    """Return whether the funnel shows since when the experiment made more web carts paid."""
    from shopsight.training.behaviour.analyses import analyse_funnel

    planted = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    begin = date.fromisoformat(planted["window"][0][:10])
    return funnel_row(planted["source"], "purchase", begin, analyse_funnel(workspace).tables["changes"])


def a_customer(folder: Path, workspace: Workspace, key: PseudonymKey) -> str:
    """Return one customer_id with a history, for the commands that the demo suggests."""
    return str(Truth.read(folder, workspace, key).customers.sort("person_id")["customer_id"][0])


def _current_identities(workspace: Workspace) -> pl.DataFrame:
    current = scan_table(workspace.tables, "identities").filter(pl.col("valid_to").is_null())
    return current.select("source", "source_id", "customer_id", "valid_to").collect()


def _ask(ask: Callable[[Question], Answer], questions: Sequence[Question]) -> list[Answer]:
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        return list(pool.map(ask, questions))
