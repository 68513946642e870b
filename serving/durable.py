"""Atomic writes that survive a kill or a power cut: write a temporary file, flush it, rename it.

Nothing is written through a symbolic link: an existing temporary file is removed first, and a file that must
be new must not exist.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text` in one step; a reader sees the old content or the new."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step; a reader sees the old content or the new."""
    temporary = _temporary(path)
    temporary.unlink(missing_ok=True)
    write_new(temporary, content)
    temporary.replace(path)
    flush_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that does not exist yet and flush it; raises FileExistsError, also for a link."""
    with os.fdopen(os.open(path, _NEW_FILE, 0o666), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def private(path: Path) -> BinaryIO:
    """Open a new file for writing that only its owner can read, whatever the umask."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file to one that does not exist yet and flush it; folders on the way are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as reader,
        os.fdopen(os.open(target, _NEW_FILE, 0o666), "wb") as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def link_file(source: Path, target: Path) -> None:
    """Hard-link a file that never changes; copy it if the filesystem has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        copy_file(source, target)


def replace_by_link(source: Path, target: Path) -> None:
    """Replace `target` by a hard link to `source` in one step, without extra space."""
    temporary = _temporary(target)
    temporary.unlink(missing_ok=True)
    link_file(source, temporary)
    temporary.replace(target)
    if temporary.exists():  # rename(2) does nothing when both names already are the same file
        temporary.unlink()
    flush_folder(target.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left below a folder."""
    for path in list(folder.rglob(".*.new")):
        path.unlink(missing_ok=True)


def flush_tree(folder: Path) -> None:
    """Flush a folder and all folders below it, so that their file names survive a power cut."""
    for parent, _, _ in os.walk(folder):
        flush_folder(Path(parent))


def flush_folder(folder: Path) -> None:
    """Flush the names in one folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
