"""What goes wrong inside a kernel, whichever backend runs it."""

from __future__ import annotations


class DivergenceError(ArithmeticError):
    """Factors became NaN or infinite; the message says when and what to change."""
