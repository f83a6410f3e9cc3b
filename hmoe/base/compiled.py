"""Where numba keeps what it compiles. librosa cannot be imported where that is nowhere."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from hmoe.base.errors import StoreError
from hmoe.base.files import cache_dir


def prepare() -> None:
    """Let numba find a folder: its own choice where it can write, else one in our cache, else it compiles anew.

    Its own choice is `NUMBA_CACHE_DIR`, the folder of the package, the user's cache. None is there for a user without
    a home who runs an installation that is read-only.
    """
    package = find_spec("librosa")
    own = [os.environ.get("NUMBA_CACHE_DIR"), *(package.submodule_search_locations or () if package else ())]
    with suppress(RuntimeError):  # no home
        own.append(os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    if any(_writable(Path(folder)) for folder in own if folder):
        return
    with suppress(StoreError):
        if _writable(cache_dir() / "numba"):
            os.environ["NUMBA_CACHE_DIR"] = str(cache_dir() / "numba")
            return
    _without_cache()


def _writable(folder: Path) -> bool:
    """Tried, as a file system that is read-only says nothing in its permissions."""
    probe = folder / f".{secrets.token_hex(4)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _without_cache() -> None:
    """What is decorated to be cached is compiled in each process: slower by seconds, and better than not at all."""
    from numba.core.caching import Cache, NullCache

    original = Cache.__init__

    def init(self: Cache, py_func: object) -> None:
        try:
            original(self, py_func)
        except RuntimeError:  # no folder
            self.__class__ = NullCache

    Cache.__init__ = init
