"""How accounts are joined and which of their facts survive: the [identity] table of a sources file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopsight.training.data.errors import IngestError
from shopsight.training.data.identity.linkage import LinkageConfig
from shopsight.training.data.identity.survivorship import DEFAULT_RULES, RULES, Survivorship
from shopsight.training.data.sources.faults import nearest
from shopsight.training.data.sources.load import read_sources_file


@dataclass(frozen=True)
class IdentityConfig:
    """Settings of linkage (linkage/) and of survivorship (survivorship.py)."""

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
    table = read_sources_file(sources_file).identity
    linkage = LinkageConfig(
        threshold=table.threshold,
        min_precision=table.min_precision or LinkageConfig.min_precision,
        method=table.method,
    )
    rules = _rules(table.survivorship, f"{sources_file}: [identity]")
    return IdentityConfig(linkage, Survivorship(rules, tuple(table.trust)))


def _rules(raw: dict[str, str], where: str) -> Any:
    for name, rule in raw.items():
        if name not in DEFAULT_RULES:
            raise IngestError(f'{where}: unknown fact "{name}"{nearest(name, DEFAULT_RULES)}')
        if rule not in RULES:
            raise IngestError(f'{where}: {name} = "{rule}"{nearest(str(rule), RULES)}')
    return DEFAULT_RULES | raw
