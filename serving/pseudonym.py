"""Keyed pseudonyms of customers' identifiers: the same hash where rows enter and where requests arrive."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

KEY_FILE_VARIABLE = "SHOPSIGHT_KEY_FILE"


class PseudonymKeyError(RuntimeError):
    """The key that pseudonymises customers' identifiers is missing or unreadable."""


@dataclass(frozen=True)
class PseudonymKey:
    """A secret with the public name of the key, kept outside the repository and the workspace."""

    key_id: str
    secret: bytes

    def pseudonym(self, source: str, source_id: str) -> str:
        """Return 32 hexadecimal digits for one source's id (HMAC-SHA256, first 128 bits).

        The length prefix keeps ("ab", "c") and ("a", "bc") apart.
        """
        message = f"{len(source)}:{source}:{source_id}".encode("utf-8", errors="surrogatepass")
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:32]


def key_path() -> Path:
    """Return where the key is looked for: $SHOPSIGHT_KEY_FILE, else the user's configuration folder."""
    if named := os.environ.get(KEY_FILE_VARIABLE):
        return Path(named)
    config_home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config_home) / "shopsight" / "pseudonym_key.json"


def load_key() -> PseudonymKey:
    """Load the key; raises PseudonymKeyError with the remedy when there is none."""
    path = key_path()
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return PseudonymKey(key_id=raw["key_id"], secret=bytes.fromhex(raw["secret"]))
    except FileNotFoundError as error:
        raise PseudonymKeyError(
            f"no pseudonymisation key at {path}; make one with 'shopsight key create', "
            f"or name an existing one in ${KEY_FILE_VARIABLE}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PseudonymKeyError(f"{path} is not a readable key file ({type(error).__name__})") from error


def create_key() -> Path:
    """Create a key that its owner alone can read and return its path; raises FileExistsError."""
    path = key_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = {"format_version": 1, "key_id": secrets.token_hex(4), "secret": secrets.token_hex(32)}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(key, stream)
    return path
