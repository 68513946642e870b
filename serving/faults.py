"""Server faults: the log records where they arose, and callers get only a reference to the log entry."""

from __future__ import annotations

import logging
import secrets
import traceback

_log = logging.getLogger(__name__)  # without a handler, the standard library writes it to the server's log


def logged(error: BaseException, where: str) -> str:
    """Log where an error arose and return the reference of the log entry.

    The message of the error is not logged: it may quote an identifier or a text of a customer.
    """
    return noted("".join(_places(error)), where)


def noted(what: str, where: str) -> str:
    """Log a description, which must not quote a customer, and return the reference of the log entry."""
    reference = secrets.token_hex(6)
    _log.error("fault %s in %s: %s", reference, where, what)
    return reference


def _places(error: BaseException) -> list[str]:
    earlier = error.__cause__ or error.__context__
    before = _places(earlier) if earlier is not None else []
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__))
    return [*before, f"{type(error).__name__} at\n", *frames.format()]
