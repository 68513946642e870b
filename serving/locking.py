"""File locks by flock(2), with a clear error on filesystems without locks."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}


class LocksMissingError(RuntimeError):
    """A filesystem cannot lock files; nothing is changed there, as two processes could interfere."""


def lock(descriptor: int, path: Path, *, wait: bool) -> None:
    """Lock an open file for this process alone; raises BlockingIOError when another has it and not `wait`.

    Raises LocksMissingError with the remedy on a filesystem without locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise LocksMissingError(
            f"{path} cannot be locked ({error.strerror}), and without locks two processes could change it at "
            "once; put it on a local disk, or mount its filesystem with locks (NFS: version 4, or lockd)"
        ) from error
