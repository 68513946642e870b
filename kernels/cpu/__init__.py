"""The operations on the CPU, compiled by numba; they hold no GIL and start no pool of numba's own."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
from numba.core.dispatcher import Dispatcher


def keep_compiled_code_by_source() -> None:
    """Give every state of this package a cache of its own: numba's looks at one file's date alone, and would
    go on with inlined code of another file that has changed since.

    Where no folder can be written, without a home and in a container that is read-only, numba would raise at
    the first function; every process then compiles anew.
    """
    kernels = Path(__file__).parents[1]  # constants of the reference are compiled in
    files = sorted(path for part in ("cpu", "reference") for path in (kernels / part).glob("*.py"))
    sources = b"".join(path.read_bytes() for path in files)
    state = hashlib.sha256(sources).hexdigest()[:16]
    for home in _homes():
        folder = home / "shopsight" / "numba" / state
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                numba.config.CACHE_DIR = str(folder)
                return
        except OSError:
            continue
    Dispatcher.enable_caching = lambda _: None


def _homes() -> Iterator[Path]:
    """Folders that may hold a cache: the user's, then one of this user's own under the temporary folder."""
    with contextlib.suppress(RuntimeError):  # the user has no home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        shared = Path(tempfile.gettempdir()) / f"shopsight-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        about = shared.lstat()
    except OSError:
        return
    # The cache is code: nobody else may have made the folder, or write there.
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
        yield shared


keep_compiled_code_by_source()
