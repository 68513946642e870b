"""The shapes of the raw files: each channel's own columns, words, ids and ways to write time."""

from __future__ import annotations

import polars as pl

from shopsight.training.data.shop.behaviour import APP, WEB
from shopsight.training.data.shop.dirt import Weakness
from shopsight.training.data.shop.spec import CURRENCY, SHOP_TIMEZONE, START

WEAKNESSES = {
    "items.csv": Weakness("sku", "title", "sku", price="price"),
    "web_events.csv": Weakness("session_id", "page", "action", "event_time", "unit_price", "sku"),
    "web_orders.csv": Weakness("order_no", "currency", "sku", "ordered_at", "unit_price", "sku"),
    "app_events.jsonl": Weakness("session", "session", "type", "ts", "price", "item", "type"),
    "store_orders.csv": Weakness("receipt", "till", "card_no", "till_time", "price", "sku"),
    "web_accounts.csv": Weakness("account_id", "last_name", "account_id"),
    "app_accounts.jsonl": Weakness("user_id", "name", "user_id"),
    "loyalty_cards.csv": Weakness("card_no", "surname", "card_no"),
    "review_authors.csv": Weakness("reviewer_id", "pen_name", "reviewer_id"),
    "social_profiles.csv": Weakness("handle", "display_name", "handle"),
    "support_contacts.jsonl": Weakness("contact_id", "name", "contact_id"),
    "reviews.jsonl": Weakness("review_id", "text", "review_id", "written_at", "", "sku"),
    "social_posts.csv": Weakness("post_id", "text", "text", "posted_at"),
    "support_messages.jsonl": Weakness("message_id", "text", "text", "sent_at"),
    "exposures.csv": Weakness("request_id", "experiment", "request_id", "shown_at", "", "sku"),
    "faq.jsonl": Weakness("id", "answer", "answer"),
    "policies.jsonl": Weakness("id", "text", "text"),
}


def utc(name: str = "time") -> pl.Expr:
    """Write seconds after the first midnight as naive UTC."""
    return stamp(name).dt.to_string("%Y-%m-%d %H:%M:%S")


def utc_iso(name: str = "time") -> pl.Expr:
    """Write seconds after the first midnight as ISO 8601 with milliseconds and Z."""
    return stamp(name).dt.to_string("%Y-%m-%dT%H:%M:%S.000Z")


def till_time(name: str = "time") -> pl.Expr:
    """Write seconds after the first midnight as naive local time of the stores."""
    zoned = stamp(name).dt.replace_time_zone("UTC").dt.convert_time_zone(SHOP_TIMEZONE)
    return zoned.dt.replace_time_zone(None).dt.to_string("%Y-%m-%d %H:%M:%S")


def day_of(name: str = "time") -> pl.Expr:
    """Write seconds after the first midnight as a date."""
    return stamp(name).dt.to_string("%Y-%m-%d")


def stamp(name: str = "time") -> pl.Expr:
    """Return seconds after the first midnight as naive UTC timestamps."""
    start = pl.lit(START.replace(tzinfo=None)).cast(pl.Datetime("us"))
    return start + pl.duration(seconds=pl.col(name))


def item_id(name: str = "item") -> pl.Expr:
    """Write item rows as item ids; null stays null."""
    return pl.lit("I") + (pl.col(name) + 1).cast(pl.String).str.zfill(5)


def serial(prefix: str, name: str) -> pl.Expr:
    """Write whole numbers as ids of fixed width."""
    return pl.lit(prefix) + pl.col(name).cast(pl.String).str.zfill(10)


def web_events(frame: pl.DataFrame) -> pl.DataFrame:
    """Write views, carts and searches of the web shop; visitors who did not log in have no id."""
    words = {"view": "pageview", "cart": "add_to_cart", "search": "search"}
    pages = {"view": "/product", "cart": "/basket", "search": "/search"}
    return frame.select(
        utc().alias("event_time"),
        pl.col("source_id").alias("visitor_id"),
        serial("ws", "session").alias("session_id"),
        pl.col("event").replace_strict(words).alias("action"),
        item_id().alias("sku"),
        "quantity",
        pl.col("price").alias("unit_price"),
        pl.lit(CURRENCY).alias("currency"),
        pl.col("event").replace_strict(pages).alias("page"),
    )


def web_orders(frame: pl.DataFrame) -> pl.DataFrame:
    """Write the web shop's order lines; a return has a negative quantity and an order number of its own."""
    return frame.select(
        order_id("W").alias("order_no"),
        pl.col("line").alias("line_no"),
        pl.col("source_id").alias("account_id"),
        item_id().alias("sku"),
        (pl.col("quantity") * pl.col("sign")).alias("qty"),
        pl.col("price").alias("unit_price"),
        "discount",
        pl.lit(CURRENCY).alias("currency"),
        utc().alias("ordered_at"),
    )


def order_id(prefix: str) -> pl.Expr:
    """Write order numbers; returns are numbered as R."""
    letter = pl.when(pl.col("sign") < 0).then(pl.lit("R")).otherwise(pl.lit("O"))
    return pl.lit(prefix) + letter + pl.col("order").cast(pl.String).str.zfill(10)


def app_events(frame: pl.DataFrame) -> pl.DataFrame:
    """Write everything that happens in the app, orders and refunds included, as one stream of events."""
    words = {"view": "screen_view", "cart": "add_to_basket", "search": "search"}
    words |= {"purchase": "order", "return": "refund", "rating": "rate"}
    return frame.select(
        utc_iso().alias("ts"),
        pl.col("source_id").alias("user_id"),
        serial("as", "session").alias("session"),
        pl.col("event").replace_strict(words).alias("type"),
        item_id().alias("item"),
        pl.col("quantity").alias("qty"),
        "price",
        pl.when(pl.col("price").is_not_null()).then(pl.lit(CURRENCY)).alias("currency"),
        "discount",
        pl.when(pl.col("order").is_not_null()).then(order_id("A")).alias("order_id"),
        "line",
        "stars",
    )


def store_orders(frame: pl.DataFrame) -> pl.DataFrame:
    """Write the tills' receipt lines of card holders, in local time."""
    return frame.select(
        order_id("S").alias("receipt"),
        "line",
        pl.col("source_id").alias("card_no"),
        item_id().alias("sku"),
        (pl.col("quantity") * pl.col("sign")).alias("qty"),
        "price",
        "discount",
        (pl.lit("till ") + (pl.col("order") % 7 + 1).cast(pl.String)).alias("till"),
        till_time().alias("till_time"),
    )


def exposures(frame: pl.DataFrame, experiment: str, arms: tuple[str, ...]) -> pl.DataFrame:
    """Write what was shown, a row an item of a request."""
    return frame.select(
        serial("rq", "session").alias("request_id"),
        pl.col("source_id").alias("account_id"),
        item_id().alias("sku"),
        "position",
        pl.lit(experiment).alias("experiment"),
        pl.col("arm").replace_strict(dict(enumerate(arms)), return_dtype=pl.String).alias("variant"),
        "propensity",
        utc_iso().alias("shown_at"),
    )


def reviews(frame: pl.DataFrame) -> pl.DataFrame:
    """Write reviews."""
    return frame.select(
        serial("RV", "number").alias("review_id"),
        pl.col("source_id").alias("reviewer_id"),
        item_id().alias("sku"),
        "stars",
        "text",
        utc_iso().alias("written_at"),
        pl.col("language").alias("lang"),
    )


def posts(frame: pl.DataFrame) -> pl.DataFrame:
    """Write posts on social media."""
    return frame.select(
        serial("SP", "number").alias("post_id"),
        pl.col("source_id").alias("handle"),
        "text",
        utc().alias("posted_at"),
        pl.col("language").alias("lang"),
    )


def support(frame: pl.DataFrame) -> pl.DataFrame:
    """Write messages to support, with what the agents noted."""
    return frame.select(
        serial("SM", "number").alias("message_id"),
        pl.col("source_id").alias("contact_id"),
        "text",
        utc_iso().alias("sent_at"),
        pl.col("language").alias("lang"),
        pl.col("label_intent").alias("intent"),
        pl.col("label_sentiment").alias("sentiment"),
    )


ONLINE_FILES = {WEB: ("web_events.csv", web_events), APP: ("app_events.jsonl", app_events)}
MESSAGE_FILES = {
    "reviews": ("reviews.jsonl", reviews),
    "social": ("social_posts.csv", posts),
    "support": ("support_messages.jsonl", support),
}
EVENT_FILES = ("web_events.csv", "app_events.jsonl", "web_orders.csv", "store_orders.csv")
