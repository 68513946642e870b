"""The shapes of the account files: what each channel asks of its customers, under its own column names."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from shopsight.training.data.shop.raw import day_of


def web_accounts(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write the web shop's accounts."""
    return accounts.select(
        pl.col("source_id").alias("account_id"),
        pl.col("given_name").alias("first_name"),
        pl.col("surname").alias("last_name"),
        "email",
        "phone",
        "birth_date",
        "street",
        "city",
        pl.col("postcode").alias("zip"),
        "country",
        pl.col("loyalty_number").alias("loyalty_no"),
        day_of("registered").alias("created_at"),
    )


def app_accounts(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write the app's accounts; the name is one field, in hanzi for most Chinese customers."""
    return accounts.select(
        pl.col("source_id").alias("user_id"),
        full_name().alias("name"),
        "email",
        pl.col("phone").alias("mobile"),
        "birth_date",
        "postcode",
        "country",
        day_of("registered").alias("registered_at"),
    )


def loyalty_cards(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write the stores' loyalty cards."""
    return accounts.select(
        pl.col("source_id").alias("card_no"),
        "given_name",
        "surname",
        "email",
        "phone",
        "birth_date",
        "street",
        "city",
        "postcode",
        "country",
        day_of("registered").alias("issued_at"),
    )


def review_authors(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write who writes reviews."""
    name = full_name().alias("pen_name")
    return accounts.select(
        pl.col("source_id").alias("reviewer_id"), name, "email", "city", "postcode", "country"
    )


def social_profiles(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write profiles on social media."""
    name = full_name().alias("display_name")
    return accounts.select(pl.col("source_id").alias("handle"), name, "email", "phone", "city", "country")


def support_contacts(accounts: pl.DataFrame) -> pl.DataFrame:
    """Write whom the support desk knows."""
    return accounts.select(
        pl.col("source_id").alias("contact_id"),
        full_name().alias("name"),
        "email",
        "phone",
        pl.col("loyalty_number").alias("loyalty_no"),
        "postcode",
        "country",
    )


def full_name() -> pl.Expr:
    """Write a name in one field; in hanzi the family name comes first, without a space."""
    hanzi = pl.col("given_name").str.contains(r"^\p{Han}")
    return (
        pl.when(hanzi)
        .then(pl.col("surname") + pl.col("given_name"))
        .otherwise(pl.col("given_name") + " " + pl.col("surname"))
    )


ACCOUNT_FILES: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "web": ("web_accounts.csv", web_accounts),
    "app": ("app_accounts.jsonl", app_accounts),
    "store": ("loyalty_cards.csv", loyalty_cards),
    "reviews": ("review_authors.csv", review_authors),
    "social": ("social_profiles.csv", social_profiles),
    "support": ("support_contacts.jsonl", support_contacts),
}
