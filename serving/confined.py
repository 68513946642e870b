"""Paths that stay inside a repository: no symbolic link is followed on the way."""

from __future__ import annotations

import stat
from pathlib import Path


class PathRefusedError(RuntimeError):
    """A path that may lead out of the repository, or that cannot be a repository; names the remedy."""


def repository_root(repository: Path) -> Path:
    """Return a repository's absolute path, whether it exists yet or not; raises PathRefusedError."""
    root = repository.absolute()
    if any(not character.isprintable() for character in str(root)):
        raise PathRefusedError(
            f"{str(root)!r} holds a line break or another character that cannot be shown; "
            "name a repository without it"
        )
    if root.is_symlink():
        raise PathRefusedError(f"{root} is a symbolic link; name the folder itself: {root.resolve()}")
    return root


def inside(root: Path, *parts: str) -> Path:
    """Return the path of `parts` below `root`; raises PathRefusedError when one of them is a link."""
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise PathRefusedError(
                f"{path}: is a symbolic link, and nothing in a repository may be one; remove it, "
                "then publish the models again"
            )
    return path


def is_regular_file(path: Path) -> bool:
    """Whether `path` itself, not what it may link to, is a file."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
