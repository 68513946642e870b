"""Atomic replacement of folders: readers see the old folder or the new one, also after a kill."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shopsight.serving.durable import flush_folder, flush_tree, link_file
from shopsight.training.artifacts.locks import reading, remove_unread

_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of renameat2(2)
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Yield a staging folder that replaces `final` when the block ends without an exception.

    The two folders are exchanged in one step of the filesystem. After an exception, the earlier folder is
    unchanged and the staging folder is removed. The next call removes what a killed process left.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _put_back(final)
    remove_leftovers(final)
    staging = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        with reading(staging):
            yield staging
            staging.chmod(stat.S_IMODE(final.parent.stat().st_mode))  # who may read the others may read it
            flush_files(staging)
            _swap(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def remove_leftovers(final: Path) -> None:
    """Remove the staging folders of `final` that killed processes left; those in use stay."""
    for path in final.parent.glob(f".{glob.escape(final.name)}-*"):
        remove_unread(path, shutil.rmtree)


def link_tree(source: Path, target: Path) -> None:
    """Fill `target` with hard links to the files of `source`, copies where the filesystem has no links.

    Files and folders whose names begin with a dot are left out, as they are being staged. Neither side may
    write into its files afterwards; replacing a file is safe.
    """
    for parent, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (name for name in names if not name.startswith(".")):
            path = Path(parent) / name
            link_file(path, target / path.relative_to(source))


def flush_files(folder: Path) -> None:
    """Flush all files below a folder and their names to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as stream:
                os.fsync(stream.fileno())
    flush_tree(folder)


def _swap(staging: Path, final: Path) -> None:
    if not final.exists():
        staging.rename(final)
    elif not _exchange(staging, final):
        # Without RENAME_EXCHANGE (NFS) there is a moment without `final`; _put_back ends it after a kill.
        earlier = _earlier(final)
        final.rename(earlier)
        staging.rename(final)
        shutil.rmtree(earlier)
    flush_folder(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; returns False if the filesystem cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def _put_back(final: Path) -> None:
    earlier = _earlier(final)
    if not earlier.exists():
        return
    if final.exists():
        shutil.rmtree(earlier)
    else:
        earlier.rename(final)


def _earlier(final: Path) -> Path:
    return final.with_name(f".{final.name}.earlier")
