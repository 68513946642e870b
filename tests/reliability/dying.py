"""Processes that end before one of their changes to the disk, without a chance to tidy up."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

KILLED = 9
Change = Callable[..., Any]


def die_before(step: int, changes: Sequence[str]) -> Callable[[Change], Change]:
    """End this process with KILLED at change number `step`, from 0, among the named functions of `os`.

    Returns a wrapper that counts the calls of a further function among them.
    """
    left = iter(range(step))

    def watched(change: Change) -> Change:
        def run(*arguments: Any, **options: Any) -> Any:
            if next(left, None) is None:
                os._exit(KILLED)
            return change(*arguments, **options)

        return run

    for name in changes:
        setattr(os, name, watched(getattr(os, name)))
    return watched


def is_killed_in_child(work: Callable[[], None]) -> bool:
    """Run `work` in a process of its own; returns whether it ended with KILLED."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"the child ended with {code}"
    return code == KILLED
