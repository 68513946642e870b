"""Writing that survives a kill or a power cut: whole under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text` in one step; a reader sees the old content or the new."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content` in one step; a reader sees the old content or the new."""
    temporary = _temporary(path)
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and flush it; folders on the way are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


def link_file(source: Path, target: Path) -> None:
    """Hard-link a file that nobody changes any more; copy it where the filesystem has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        copy_file(source, target)


def replace_by_link(source: Path, target: Path) -> None:
    """Let `target` be the content of `source` in one step, without needing space for it."""
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
    """Flush a folder and all folders below it, so that the names in them last."""
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
