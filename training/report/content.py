"""Content of the report page, read from the tables and the trained models."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import polars as pl

from shopsight.training.artifacts.trained_state import is_trained, saved_metrics
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.cleaning.goods import of_goods
from shopsight.training.data.consent import LANGUAGE, permitted
from shopsight.training.data.money import events_in_main, in_words, is_in, line_total, main_currency, totals
from shopsight.training.data.period import period
from shopsight.training.data.tables import scan_table
from shopsight.training.report import figures

_BEST_SELLERS = 8
_TOPICS = 14
_MESSAGES_READ = 5_000


def customer_cards(workspace: Workspace) -> list[dict[str, str]]:
    """Return the key figures at the top of the page, as {value, label}."""
    events = events_in_main(workspace.tables)
    customers = scan_table(workspace.tables, "customers").select(pl.len()).collect().item()
    identities = scan_table(workspace.tables, "identities").filter(pl.col("valid_to").is_null())
    accounts = identities.select(pl.len()).collect().item()
    bought = events.filter(pl.col("event") == "purchase")
    buyers, orders = bought.select(
        pl.col("customer_id").n_unique(), pl.col("order_id").n_unique()
    ).collect().row(0)  # fmt: skip
    cards = [(f"{customers:,}", "customers"), (f"{accounts:,}", "accounts in all channels")]
    if orders:
        sums = totals(events)
        shares = [
            f"{back / sold:.1%}" if sold else "0%" for sold, back in sums.select("sold", "returned").rows()
        ]
        cards += [
            (f"{buyers:,}", "customers with a purchase"),
            (f"{orders:,}", "orders"),
            (in_words(sums.select("currency", "net").rows()), "revenue after returns"),
            (" and ".join(shares), "of revenue sent back"),
        ]
    return [{"value": value, "label": label} for value, label in cards]


def sales(workspace: Workspace) -> dict[str, Any]:
    """Return revenue over time and per category, and the best sellers, in the currency of most sales.

    Lines that are no goods, such as postage, count in the revenue over time, but not as category or best
    seller.
    """
    sold = events_in_main(workspace.tables).filter(pl.col("event").is_in(["purchase", "return"]))
    days = period(sold)
    if days is None:
        return {"revenue_plot": "", "category_plot": "", "best_sellers": []}
    main = main_currency(sold)
    sign = pl.when(pl.col("event") == "return").then(-1.0).otherwise(1.0)
    pieces = pl.col("quantity").cast(pl.Float64).fill_null(1.0).abs()
    signed = sold.with_columns(
        pl.when(is_in(main)).then(sign * line_total()).fill_null(0.0).alias("revenue"),
        (sign * pieces).alias("sold"),
    )
    weeks = (
        signed.filter(pl.col("timestamp").is_between(*days))
        .group_by(pl.col("timestamp").dt.truncate("1w").dt.date().alias("week"))
        .agg(pl.col("revenue").sum())
        .sort("week")
        .collect()
    )
    if weeks.height < 2:
        return {"revenue_plot": "", "category_plot": "", "best_sellers": [], "left_out": ""}
    items = scan_table(workspace.tables, "items")
    named = of_goods(signed, items)
    named = named.join(items.select("item_id", "title", "category_path"), on="item_id", how="left")
    # The first and the last week are rarely complete.
    whole = weeks.slice(1, weeks.height - 2) if weeks.height > 4 else weeks
    unit = f"revenue in {main}" if main else "revenue"
    others = totals(sold.filter(~is_in(main))).select("currency", "net").rows()
    return {
        "revenue_plot": figures.line(whole["week"].to_list(), whole["revenue"].to_list(), unit=unit),
        "category_plot": _category_plot(named, unit),
        "best_sellers": _best_sellers(named),
        "left_out": f"{in_words(others)} are left out: no rate to {main} is known." if others else "",
    }


def messages(workspace: Workspace) -> dict[str, Any]:
    """Return the topics of messages, predicted by the trained model or, without one, from their labels.

    Messages of people who refuse it are not read.
    """
    written = permitted(workspace, "messages", LANGUAGE).filter(pl.col("rating").is_null())
    latest = written.sort("timestamp", "message_id").tail(_MESSAGES_READ)
    texts = latest.select("message_id", "text", "language").collect()
    topics, sentiments, source = _topics(workspace, texts)
    if not topics:
        return {"intent_plot": "", "intent_source": "", "message_sentence": "", **_NO_DRIFT}
    counts = Counter(topics).most_common(_TOPICS)
    names = [name.replace("_", " ") for name, _ in counts]
    languages = Counter(texts["language"].to_list())
    spoken = ", ".join(f"{rows / texts.height:.0%} {language}" for language, rows in languages.most_common(3))
    sentence = f"The latest {texts.height:,} messages, by language: {spoken}."
    if sentiments:
        unhappy = sum(sentiment == "negative" for sentiment in sentiments) / len(sentiments)
        sentence += f" {unhappy:.0%} of them are negative."
    plot = figures.bars(names, [float(rows) for _, rows in counts], unit="messages")
    told = {"intent_plot": plot, "intent_source": source, "message_sentence": sentence}
    return told | _drift(workspace)


_NO_DRIFT: dict[str, Any] = {"abstained_plot": "", "moved_sentence": "", "message_groups": []}
_GROUPS = 6


def _drift(workspace: Workspace) -> dict[str, Any]:
    """Return the drift that `shopsight evaluate language` measured, as plots, sentences and groups."""
    told = saved_metrics(workspace, "language").get("drift")
    if not told or len(told["weeks"]) < 2:
        return _NO_DRIFT
    weeks = [date.fromisoformat(week["week"]) for week in told["weeks"]]
    moved = [s for s in told["shares"] if s["moved"]]
    names = [f"{s['intent'].replace('_', ' ')} ({s['before']:.1%} to {s['recent']:.1%})" for s in moved]
    days = told["recent_days"]
    said = f"In the last {days} days the share of these topics changed significantly: {', '.join(names)}."
    return {
        "abstained_plot": figures.line(weeks, [w["value"] for w in told["weeks"]], unit="share of messages"),
        "moved_sentence": said
        if moved
        else f"In the last {days} days no topic's share changed significantly.",
        "message_groups": [
            {
                "words": ", ".join(group["words"]),
                "recent": f"{group['recent_a_week']:.1f}",
                "before": f"{group['before_a_week']:.1f}",
            }
            for group in told["groups"][:_GROUPS]
        ],
    }


def _topics(workspace: Workspace, texts: pl.DataFrame) -> tuple[list[str], list[str], str]:
    if texts.is_empty():
        return [], [], ""
    if is_trained(workspace, "language"):
        from shopsight.training import language

        found = language.load(workspace).predict(texts["text"].fill_null("").to_list())
        sentiments = found.labels("sentiment") if found.classes.get("sentiment") else []
        if found.classes.get("intent"):
            return found.labels("intent"), sentiments, "predicted by the trained model"
    labels = scan_table(workspace.tables, "labels").filter(pl.col("task") == "intent").collect()
    labels = labels.join(texts, on="message_id", how="semi")
    return labels["label"].to_list(), [], "as they were labelled"


def _category_plot(named: pl.LazyFrame, unit: str) -> str:
    top = pl.col("category_path").str.split("/").list.first().str.strip_chars()
    rows = (
        named.filter(pl.col("category_path").is_not_null())
        .group_by(top.alias("category"))
        .agg(pl.col("revenue").sum())
        .sort("revenue", descending=True)
        .head(12)
        .collect()
    )
    if rows.height < 2:
        return ""
    return figures.bars(rows["category"].to_list(), rows["revenue"].to_list(), unit=unit)


def _best_sellers(named: pl.LazyFrame) -> list[dict[str, str]]:
    rows = (
        named.group_by("item_id")
        .agg(pl.col("title").first(), pl.col("sold").sum(), pl.col("revenue").sum())
        .sort("revenue", "item_id", descending=[True, False])
        .head(_BEST_SELLERS)
        .collect()
    )
    return [
        {"title": title or item_id, "sold": f"{sold:,.0f}", "revenue": f"{revenue:,.0f}"}
        for item_id, title, sold, revenue in rows.iter_rows()
    ]
