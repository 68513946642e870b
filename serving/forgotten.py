"""Tombstones of erased customers, which ingest, training and serving obey.

A tombstone holds opaque customer ids and the keyed hashes of the source ids that must not become a customer
again. The same file lies in the workspace and at the top of every model repository that was named to
`forget`, so that an earlier release, a rollback or a backup of it cannot restore an erased customer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shopsight.serving.durable import write_text
from shopsight.serving.pseudonym import PseudonymKey

FORGOTTEN_FILE = "forgotten.json"
FORMAT_VERSION = 1


class ForgottenError(RuntimeError):
    """The list of erased customers cannot be read; nothing may continue without it."""


@dataclass(frozen=True)
class Tombstone:
    """One erased customer: all their customer ids, (source, pseudonym) of every source id, and the time.

    phrases: (kind, keyed hashes of the words) that are masked in texts of other people; empty if masking was
    not requested.
    """

    customer_ids: tuple[str, ...]
    pseudonyms: tuple[tuple[str, str], ...]
    key_id: str
    forgotten_at: str
    phrases: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Forgotten:
    """All tombstones of one folder.

    customer_ids and pseudonyms are the sets over all tombstones, for look-ups.
    """

    def __init__(self, tombstones: Iterable[Tombstone] = ()) -> None:
        self.tombstones = tuple(tombstones)
        self.customer_ids = frozenset(c for t in self.tombstones for c in t.customer_ids)
        self.pseudonyms = frozenset(p for t in self.tombstones for _, p in t.pseudonyms)

    @staticmethod
    def read(folder: Path) -> Forgotten:
        """Read `forgotten.json` of a workspace or repository; without the file, no customer was erased.

        Raises ForgottenError if the file cannot be read: continuing could restore erased customers.
        """
        path = folder / FORGOTTEN_FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version is {raw['format_version']}, this reads {FORMAT_VERSION}")
            return Forgotten(_tombstone(one) for one in raw["tombstones"])
        except FileNotFoundError:
            return Forgotten()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ForgottenError(
                f"{path}: the list of forgotten customers cannot be read ({error}); "
                "restore it from a backup before anything else runs"
            ) from error

    def write(self, folder: Path) -> None:
        """Replace `forgotten.json` of a folder in one step."""
        content = {"format_version": FORMAT_VERSION, "tombstones": [asdict(t) for t in self.tombstones]}
        write_text(folder / FORGOTTEN_FILE, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def joined(self, others: Forgotten) -> Forgotten:
        """Return the tombstones of both, in order, without duplicates."""
        return Forgotten(dict.fromkeys((*self.tombstones, *others.tombstones)))

    def renewed(self, key: PseudonymKey) -> Forgotten:
        """Return the tombstones with the pseudonyms of a rotated `key`; raises PseudonymKeyError."""
        return Forgotten(_renewed(stone, key) for stone in self.tombstones)


class ForgottenWatch:
    """The current tombstones of a repository, read again when the file was replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._forgotten = Forgotten()

    def now(self) -> Forgotten:
        """Return the current tombstones; raises ForgottenError."""
        try:
            status = (self._folder / FORGOTTEN_FILE).stat()
            stamp = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp != self._seen:
            self._forgotten = Forgotten.read(self._folder)
            self._seen = stamp
        return self._forgotten


def _renewed(stone: Tombstone, key: PseudonymKey) -> Tombstone:
    sources, pseudonyms = [s for s, _ in stone.pseudonyms], [p for _, p in stone.pseudonyms]
    pairs = zip(sources, key.renewed(pseudonyms, stone.key_id), strict=True)
    phrases = tuple((kind, tuple(key.renewed(words, stone.key_id))) for kind, words in stone.phrases)
    return replace(stone, pseudonyms=tuple(pairs), key_id=key.key_id, phrases=phrases)


def _tombstone(raw: dict[str, object]) -> Tombstone:
    customer_ids, pseudonyms, phrases = raw["customer_ids"], raw["pseudonyms"], raw.get("phrases", [])
    if not all(isinstance(each, list) for each in (customer_ids, pseudonyms, phrases)):
        raise TypeError("customer_ids, pseudonyms and phrases must be lists")
    assert isinstance(customer_ids, list) and isinstance(pseudonyms, list) and isinstance(phrases, list)
    return Tombstone(
        tuple(str(c) for c in customer_ids),
        tuple((str(source), str(pseudonym)) for source, pseudonym in pseudonyms),
        str(raw["key_id"]),
        str(raw["forgotten_at"]),
        tuple((str(kind), tuple(map(str, words))) for kind, words in phrases),
    )
