"""Finds the customer of a request by bisection in sorted matrices of customer ids and pseudonyms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shopsight.serving.faults import logged
from shopsight.serving.forgotten import ForgottenError, ForgottenWatch
from shopsight.serving.pseudonym import KEY_FILE_VARIABLE, PseudonymKey, PseudonymKeyError
from shopsight.serving.routing.arrays import map_safetensors
from shopsight.serving.routing.rows import RequestError, Row
from shopsight.serving.safetensors_layout import TensorFileError

Array = np.ndarray[Any, Any]

UNKNOWN = -1
CUSTOMERS_FILE = "customers.safetensors"
IDENTITIES_FILE = "identities.safetensors"


class SortedIds:
    """Ids as a uint8 matrix [n, width], ascending, right-padded with zeros; searched without a copy."""

    def __init__(self, matrix: Array, origin: str) -> None:
        if matrix.ndim != 2 or matrix.dtype != np.uint8:
            raise TensorFileError(
                f"{origin}: ids are {matrix.dtype} {matrix.shape}, expected uint8 [n, width]"
            )
        self.width = matrix.shape[1]
        self._ids = matrix.view(f"S{self.width}").reshape(-1) if matrix.size else np.empty(0, "S1")

    def __len__(self) -> int:
        return len(self._ids)

    def row_of(self, wanted: bytes) -> int:
        """Return the row of an id, UNKNOWN (-1) if it is absent."""
        if len(wanted) > self.width or wanted.endswith(b"\0"):
            return UNKNOWN
        row = int(np.searchsorted(self._ids, np.array(wanted, dtype=self._ids.dtype)))
        return row if row < len(self._ids) and self._ids[row] == wanted else UNKNOWN


class People:
    """The customers of a router, found by CUSTOMER_ID or by SOURCE and SOURCE_ID.

    A customer named in the repository's tombstones (serving/forgotten.py) is unknown as soon as the tombstone
    is written, in every release. `load_key` is called at the first SOURCE lookup. `key_id` names the key of
    the training, "" accepts any key; a key that was rotated from it still finds every customer.
    """

    def __init__(self, folder: Path, load_key: Callable[[], PseudonymKey], key_id: str = "") -> None:
        self.arrays = map_safetensors(folder / CUSTOMERS_FILE)
        identities = map_safetensors(folder / IDENTITIES_FILE)
        self._customers = SortedIds(self.arrays["customer_id"], f"{folder / CUSTOMERS_FILE}: customer_id")
        self._pseudonyms = SortedIds(identities["pseudonym"], f"{folder / IDENTITIES_FILE}: pseudonym")
        self._customer_row = identities["customer_row"]
        self._forgotten = ForgottenWatch(folder.parent.parent)
        self._load_key = load_key
        self._key_id = key_id
        self._key: PseudonymKey | None = None

    def __len__(self) -> int:
        return len(self._customers)

    def named(self, row: Row) -> bool:
        """Return whether a row names a customer; raises RequestError if it does so twice or incompletely."""
        customer, source, source_id = (row.text(name) for name in ("CUSTOMER_ID", "SOURCE", "SOURCE_ID"))
        if (source is None) != (source_id is None):
            missing = "SOURCE_ID" if source_id is None else "SOURCE"
            raise RequestError(f"{missing} is missing: SOURCE and SOURCE_ID name a customer together")
        if customer is not None and source is not None:
            raise RequestError("give CUSTOMER_ID, or SOURCE with SOURCE_ID, not both")
        return customer is not None or source is not None

    def row_of(self, row: Row) -> int:
        """Return the row of the customer that a request names, UNKNOWN if none is named or known."""
        if not self.named(row):
            return UNKNOWN
        try:
            forgotten = self._forgotten.now()
        except ForgottenError as error:
            reference = logged(error, "reading who was forgotten")
            raise RequestError(
                f"forgotten.json of the repository cannot be read (reference {reference}), so that no "
                "customer may be looked up; restore it from a backup",
                "UNAVAILABLE",
            ) from error
        customer = row.text("CUSTOMER_ID")
        if customer is not None:
            gone = customer.decode(errors="replace") in forgotten.customer_ids
            return UNKNOWN if gone else self._customers.row_of(customer)
        source, source_id = _decoded(row, "SOURCE"), _decoded(row, "SOURCE_ID")
        pseudonym = self._loaded_key().pseudonym(source, source_id)
        found = self._pseudonyms.row_of(pseudonym.encode())
        if found == UNKNOWN or pseudonym in forgotten.pseudonyms:
            return UNKNOWN
        return int(self._customer_row[found])

    def _loaded_key(self) -> PseudonymKey:
        if self._key is None:
            try:
                key = self._load_key()
            except PseudonymKeyError as error:
                raise RequestError(
                    "SOURCE cannot be looked up: this server has no pseudonymisation key that it can read; "
                    "ask by CUSTOMER_ID, or restart the server with the key that the release was made with, "
                    f"named in ${KEY_FILE_VARIABLE} ('shopsight key create' makes a shop's first)",
                    "UNSUPPORTED",
                ) from error
            try:
                self._key = key.as_of(self._key_id) if self._key_id else key
            except PseudonymKeyError as error:
                raise RequestError(
                    f"SOURCE cannot be looked up: the server holds key {key.key_id}, the release was made "
                    f"with key {self._key_id}; start the server with that key, or one rotated from it",
                    "UNSUPPORTED",
                ) from error
        return self._key


def _decoded(row: Row, name: str) -> str:
    try:
        return (row.text(name) or b"").decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} is not valid UTF-8 (byte {error.start}); send UTF-8") from error
