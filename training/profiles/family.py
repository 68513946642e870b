"""The profiles family: features of every customer, and segments in words and numbers."""

from __future__ import annotations

from shopsight.training.artifacts.family import Family
from shopsight.training.profiles import ProfilesConfig, evaluate, export, train

FAMILY = Family(
    name="profiles",
    config=ProfilesConfig,
    requires=("events",),
    train=train,
    evaluate=evaluate,
    export=export,
    erasure="rows",
)
