"""Suppress warnings of TorchRec and torch about their own interfaces, which a user cannot change."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_TALKATIVE = ("torchrec", "torch.fx._symbolic_trace")
_REMARKS = (FutureWarning, DeprecationWarning, UserWarning)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages below ERROR of these libraries; errors are logged as usual."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in _REMARKS:
                warnings.filterwarnings("ignore", category=category, module=r"(torch|torchrec)\.")
            # Said of the caller, where a library's interface will change.
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"training\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
