"""The error of behaviour analyses."""

from __future__ import annotations


class BehaviourError(ValueError):
    """An analysis of behaviour cannot be made as asked; the message names what is wrong and the remedy."""
