"""Keyed pseudonyms of customers' identifiers, equal for ingested rows and for requests."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopsight.serving.locking import lock

KEY_FILE_VARIABLE = "SHOPSIGHT_KEY_FILE"
FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # 1 has no `renews`


class PseudonymKeyError(RuntimeError):
    """The key that pseudonymises customers' identifiers is missing, unreadable, or the wrong one."""


class KeyExistsError(PseudonymKeyError):
    """A key would take the place of one that stored pseudonyms were made with."""


@dataclass(frozen=True)
class PseudonymKey:
    """A secret key with its public name, kept outside the repository and the workspace.

    renews: the previous key, if this one came by rotation. A pseudonym of the previous key is then hashed
    with this one, so that stored ones can be renewed without the raw ids (docs/adr/0006-keys-are-renewed.md).
    """

    key_id: str
    secret: bytes = field(repr=False)
    renews: PseudonymKey | None = None

    def pseudonym(self, source: str, source_id: str) -> str:
        """Return 32 hexadecimal digits for one source's id (HMAC-SHA256, first 128 bits).

        The length prefix keeps ("ab", "c") and ("a", "bc") apart.
        """
        return self.pseudonyms(source, [source_id])[0]

    def pseudonyms(self, source: str, source_ids: Iterable[str]) -> list[str]:
        """Return the pseudonyms of many ids of one source, in their order."""
        if self.renews is not None:
            return self._hashed(b"", self.renews.pseudonyms(source, source_ids))
        prefix = f"{len(source)}:{source}:".encode("utf-8", errors="surrogatepass")
        return self._hashed(prefix, source_ids)

    def renewed(self, pseudonyms: Iterable[str], key_id: str) -> list[str]:
        """Return pseudonyms of the earlier key `key_id`, renewed to this key; raises PseudonymKeyError."""
        if key_id == self.key_id:
            return list(pseudonyms)
        if self.renews is None:
            raise PseudonymKeyError(f"key {self.key_id} does not come after key {key_id}")
        return self._hashed(b"", self.renews.renewed(pseudonyms, key_id))

    def as_of(self, key_id: str) -> PseudonymKey:
        """Return this key, or the earlier key `key_id` that it was rotated from; raises PseudonymKeyError."""
        key: PseudonymKey | None = self
        while key is not None:
            if key.key_id == key_id:
                return key
            key = key.renews
        raise PseudonymKeyError(f"key {self.key_id} does not come after key {key_id}")

    def _hashed(self, prefix: bytes, texts: Iterable[str]) -> list[str]:
        secret = self.secret
        return [
            hmac.digest(secret, prefix + text.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]
            for text in texts
        ]


def key_path() -> Path:
    """Return the path of the key file: $SHOPSIGHT_KEY_FILE, or the one in the user's configuration folder."""
    if named := os.environ.get(KEY_FILE_VARIABLE):
        return Path(named)
    config_home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config_home) / "shopsight" / "pseudonym_key.json"


def load_key() -> PseudonymKey:
    """Load the key; raises PseudonymKeyError with the remedy if there is none."""
    path = key_path()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format_version", 1) not in _READABLE_VERSIONS:
            raise PseudonymKeyError(
                f"{path}: format_version is {raw['format_version']}, this reads up to {FORMAT_VERSION}; "
                "update shopsight"
            )
        return _from_json(raw)
    except FileNotFoundError as error:
        raise PseudonymKeyError(
            f"no pseudonymisation key at {path}; make one with 'shopsight key create', "
            f"or name an existing one in ${KEY_FILE_VARIABLE}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PseudonymKeyError(f"{path} is not a readable key file ({type(error).__name__})") from error


def create_key() -> Path:
    """Create a key file that only its owner can read and return its path; raises KeyExistsError."""
    path = key_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyExistsError(
            f"{path} holds a key already, and stays as it is: pseudonyms made with it need it; "
            f"'shopsight key rotate' puts a new key over it, and {KEY_FILE_VARIABLE} names another file"
        ) from None
    _write(descriptor, _fresh(None))
    return path


def rotate_key() -> PseudonymKey:
    """Add a new key to the key file and return it; raises PseudonymKeyError.

    The file is replaced in one step. It keeps the earlier keys: the new pseudonyms are derived from theirs.
    Two concurrent rotations happen one after the other.
    """
    path = key_path()
    load_key()
    with path.with_name(path.name + ".lock").open("w") as opened:
        lock(opened.fileno(), path, wait=True)
        key = _fresh(load_key())
        staged = path.with_name(f".{path.name}.new")
        staged.unlink(missing_ok=True)
        _write(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), key)
        staged.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    return key


def _fresh(renews: PseudonymKey | None) -> PseudonymKey:
    return PseudonymKey(secrets.token_hex(4), secrets.token_bytes(32), renews)


def _write(descriptor: int, key: PseudonymKey) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({"format_version": FORMAT_VERSION, **_as_json(key)}, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _as_json(key: PseudonymKey) -> dict[str, Any]:
    renews = None if key.renews is None else _as_json(key.renews)
    return {"key_id": key.key_id, "secret": key.secret.hex(), "renews": renews}


def _from_json(raw: dict[str, Any]) -> PseudonymKey:
    renews = None if raw.get("renews") is None else _from_json(raw["renews"])
    return PseudonymKey(raw["key_id"], bytes.fromhex(raw["secret"]), renews)
