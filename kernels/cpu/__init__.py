"""The operations on the CPU, compiled by numba; they hold no GIL and start no pool of numba's own."""

import hashlib
import os
from pathlib import Path

import numba


def _keep_compiled_code_by_source() -> None:
    """Give every state of this package a cache of its own: numba's looks at one file's date alone, and would
    go on with inlined code of another file that has changed since.
    """
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "shopsight" / "numba" / hashlib.sha256(sources).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # numba then finds a place of its own, or compiles anew in each process
    numba.config.CACHE_DIR = str(folder)


_keep_compiled_code_by_source()
