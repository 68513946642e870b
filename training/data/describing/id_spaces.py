"""Detects files that share an id space, so that a buyer is the customer listed in another file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from shopsight.training.data.describing.aliases import plain_name
from shopsight.training.data.describing.proposals import Proposal

_LEAST_KNOWN = 0.5  # of the ids of a file, in the list of customers
_CUSTOMER = ("customerid", "idcustomer", "userid", "memberid", "clientid", "accountid")


def one_id_space(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Give the files whose customers are in a list of customers the name of that list.

    Both must call the id the same, because two systems may both count from 1.
    """
    lists = [one for one in proposals if one.kind == "customers"]
    return [one if one.kind == "customers" else _named(one, lists) for one in proposals]


def _named(proposal: Proposal, lists: Sequence[Proposal]) -> Proposal:
    told = _ids(proposal)
    if told is None or told[1].is_empty():
        return proposal
    column, ids = told
    for one in lists:
        known = _ids(one)
        if known is None or one.name == proposal.name or not _same_name(column, known[0]):
            continue
        share = ids.is_in(known[1].implode()).mean()
        if isinstance(share, float) and share >= _LEAST_KNOWN:
            return replace(proposal, name=one.name)
    return proposal


def _ids(proposal: Proposal) -> tuple[str, pl.Series] | None:
    """The column of the customers' ids, and the ids."""
    joined = proposal.joined
    if joined is not None and "source_id" in joined.columns:
        column, texts = joined.columns["source_id"], joined.sample["source_id"]
    elif "source_id" in proposal.columns:
        column, texts = proposal.columns["source_id"], proposal.sample["source_id"]
    else:
        return None
    ids = texts.str.strip_chars().unique()
    return column, ids.filter(ids.str.len_chars() > 0)


def _same_name(ours: str, listed: str) -> bool:
    one, other = plain_name(ours), plain_name(listed)
    return one == other or (one in _CUSTOMER and other in ("id", *_CUSTOMER))
