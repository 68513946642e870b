"""Consent per purpose: training leaves out customers who refuse; serving treats them as unknown."""

from __future__ import annotations

import polars as pl

from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.period import dated_events
from shopsight.training.data.tables import PURPOSES, scan_table

PERSONALISATION, PROFILING, LANGUAGE, MARKETING = PURPOSES


def forbidden(workspace: Workspace, purpose: str) -> list[str]:
    """Return the customers who do not allow a purpose, sorted.

    The latest row of a customer counts. A row without customer_id is the default for customers without a row;
    without such a row, the default is consent.
    """
    said = (
        scan_table(workspace.tables, "consents")
        .filter(pl.col("purpose") == purpose)
        .sort("timestamp", "allowed", descending=[False, True])
        .group_by("customer_id")
        .agg(pl.col("allowed").last())
        .collect()
    )
    default = said.filter(pl.col("customer_id").is_null())["allowed"]
    spoken = said.filter(pl.col("customer_id").is_not_null())
    denied = spoken.filter(~pl.col("allowed"))["customer_id"]
    if default.len() and not default[0]:
        customers = scan_table(workspace.tables, "customers").select("customer_id").collect()["customer_id"]
        silent = customers.filter(~customers.is_in(spoken["customer_id"].to_list()))
        denied = pl.concat([denied, silent])
    return denied.unique().sort().to_list()


def permitted(workspace: Workspace, table: str, purpose: str) -> pl.LazyFrame:
    """Scan a table without the rows of customers who refuse the purpose; rows without a customer stay.

    Events with an implausible time are left out.
    """
    rows = dated_events(workspace.tables) if table == "events" else scan_table(workspace.tables, table)
    denied = forbidden(workspace, purpose)
    if not denied:
        return rows
    return rows.filter(~pl.col("customer_id").is_in(denied).fill_null(False))
