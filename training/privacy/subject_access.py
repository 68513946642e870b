"""All data held on one customer, as JSON and as a page."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from shopsight.serving.pseudonym import PseudonymKey
from shopsight.training.artifacts.snapshots import read_snapshot
from shopsight.training.artifacts.workspace import Workspace
from shopsight.training.data.quarantine import read_quarantine
from shopsight.training.data.tables import SCHEMAS, scan_table
from shopsight.training.privacy.people import Person, find_people
from shopsight.training.privacy.places import contacts_of, is_theirs, learned_rows
from shopsight.training.privacy.renew import renew_workspace

FORMAT_VERSION = 1


class NothingHeld(LookupError):  # noqa: N818 - reads as what happened
    """No table knows the id."""


@dataclass(frozen=True)
class Held:
    """The data held: accounts with their raw contacts, rows by table, refused rows, and rows of models by
    file.
    """

    customer_ids: tuple[str, ...]
    accounts: list[dict[str, Any]]
    tables: dict[str, list[dict[str, Any]]]
    refused: list[dict[str, Any]]
    learned: dict[str, list[dict[str, Any]]]
    as_of: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "format_version": FORMAT_VERSION,
            "as_of": self.as_of,
            "customer_ids": list(self.customer_ids),
            "accounts": self.accounts,
            "tables": self.tables,
            "refused": self.refused,
            "learned": self.learned,
        }

    def write(self, path: Path) -> None:
        """Write the JSON file, readable by its owner alone; raises FileExistsError for one that exists."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise FileExistsError(f"{path} exists and stays as it is; name another file with --out") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(self.as_dict(), stream, indent=1, ensure_ascii=False, default=str)
            stream.write("\n")


def subject_access(workspace: Workspace, key: PseudonymKey, source: str, source_id: str) -> Held:
    """Collect the data held on the customer with this raw id.

    Raises NothingHeld if there is none, UnknownSourceError for a source that the workspace does not have.
    """
    renew_workspace(workspace, key)
    found = find_people(workspace, key, source, [source_id])
    tables = [_tables(workspace, person) for person in found.people]
    refused = read_quarantine(workspace.quarantine)
    refused = refused.filter(is_theirs(refused, found.people, key))
    if not found.people or not (tables[0] or refused.height):
        raise NothingHeld(f"nothing is held on this id of source '{source}' in {workspace.root}")
    contacts = contacts_of(workspace, found.people, key)
    return Held(
        customer_ids=found.people[0].customer_ids,
        accounts=[] if contacts is None else contacts[0].filter(contacts[1]).to_dicts(),
        tables=tables[0],
        refused=refused.to_dicts(),
        learned=learned_rows(workspace, found.people),
        as_of=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _tables(workspace: Workspace, person: Person) -> dict[str, list[dict[str, Any]]]:
    theirs = pl.col("customer_id").is_in(list(person.customer_ids))
    messages = scan_table(workspace.tables, "messages").filter(theirs).select("message_id").collect()
    found = {}
    for name in sorted(read_snapshot(workspace.tables)["tables"]):
        if name == "labels":
            mine = pl.col("message_id").is_in(messages["message_id"].to_list())
        elif "customer_id" in SCHEMAS[name]:
            mine = theirs
        else:
            continue
        rows = scan_table(workspace.tables, name).filter(mine).collect()
        if rows.height:
            found[name] = rows.to_dicts()
    return found
