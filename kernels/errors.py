"""Errors that the kernels raise on every backend."""

from __future__ import annotations


class DivergenceError(ArithmeticError):
    """Factors became NaN or infinite; the message names the epoch or the row, and the remedy."""
