"""The operations on the CPU, compiled by numba; they release the GIL and do not use numba's thread pool."""

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
    """Give every version of these sources a cache folder of its own, named by their SHA-256.

    numba's cache compares the date of one file alone, so that it would reuse code inlined from another file
    that has changed. Without a writable folder (no home, or a read-only container) numba would raise at the
    first function; the cache is then switched off and every process compiles again.
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
    """Yield folders for the cache: the user's cache folder, then a private one in the temporary folder."""
    with contextlib.suppress(RuntimeError):  # the user has no home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        shared = Path(tempfile.gettempdir()) / f"shopsight-{os.getuid()}"
        shared.mkdir(mode=0o700, exist_ok=True)
        about = shared.lstat()
    except OSError:
        return
    # The cache is code that gets executed: no other user may own the folder or write to it.
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
        yield shared


keep_compiled_code_by_source()
