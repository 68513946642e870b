"""How accounts are joined and which of their facts survive: the [identity] table of a sources file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.linkage import METHODS, LinkageConfig
from training.data.sources import IngestError, nearest
from training.data.survivorship import DEFAULT_RULES, RULES, Survivorship

KEYS = ("method", "threshold", "min_precision", "trust", "survivorship")


@dataclass(frozen=True)
class IdentityConfig:
    """Settings of linkage (training/data/linkage) and of survivorship (training/data/survivorship.py)."""

    linkage: LinkageConfig = field(default_factory=LinkageConfig)
    survivorship: Survivorship = field(default_factory=Survivorship)


def load_identity_config(sources_file: Path) -> IdentityConfig:
    """Read the optional [identity] table; raises IngestError naming file, key and what is allowed.

    [identity]
    method = "likeness"              # or "keys": by equal numbers, mails and phones alone; or "off"
    min_precision = 0.99             # what the chosen threshold keeps to, or: threshold = 0.99
    trust = ["store", "web"]         # for most_trusted, the most trusted source first
    [identity.survivorship]
    city = "most_trusted"            # facts that are not named keep their default rule
    """
    raw = tomllib.loads(sources_file.read_text(encoding="utf-8-sig")).get("identity", {})
    where = f"{sources_file}: [identity]"
    if not isinstance(raw, dict):
        raise IngestError(f"{where} is not a table")
    for key in raw:
        if key not in KEYS:
            raise IngestError(f'{where}: unknown key "{key}"{nearest(key, KEYS)}')
    trust = raw.get("trust", [])
    if not isinstance(trust, list) or not all(isinstance(name, str) for name in trust):
        raise IngestError(f'{where}: trust is {trust!r}, expected names of sources: ["store", "web"]')
    method = raw.get("method", "likeness")
    if method not in METHODS:
        raise IngestError(f'{where}: method = "{method}"{nearest(str(method), METHODS)}')
    linkage = LinkageConfig(
        threshold=_share(raw, "threshold", where),
        min_precision=_share(raw, "min_precision", where) or LinkageConfig.min_precision,
        method=method,
    )
    return IdentityConfig(linkage, Survivorship(_rules(raw.get("survivorship", {}), where), tuple(trust)))


def _share(raw: dict[str, Any], key: str, where: str) -> float | None:
    value = raw.get(key)
    if value is not None and not (isinstance(value, float) and 0 < value < 1):
        raise IngestError(f"{where}: {key} is {value!r}, expected a number between 0 and 1")
    return value


def _rules(raw: Any, where: str) -> Any:
    if not isinstance(raw, dict):
        raise IngestError(f"{where}: survivorship is not a table; write [identity.survivorship]")
    for name, rule in raw.items():
        if name not in DEFAULT_RULES:
            raise IngestError(f'{where}: unknown fact "{name}"{nearest(name, DEFAULT_RULES)}')
        if rule not in RULES:
            raise IngestError(f'{where}: {name} = "{rule}"{nearest(str(rule), RULES)}')
    return DEFAULT_RULES | raw
