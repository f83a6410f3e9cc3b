"""Where things are kept, and how they are written: whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from hmoe.base.errors import StoreError

PACKAGE = Path(__file__).parent.parent  # hmoe/
PROJECT = PACKAGE.parent  # the checkout, where the package was installed from one
DATA = PACKAGE / "data"  # what comes with the package: manifests, sentences
NO_PATHS = ("HMOE_CORPUS", "HMOE_COMMIT")  # variables of ours that hold a name; all others hold a path


def located(variable: str) -> Path | None:
    """The path that an environment variable gives; None where it is not set, or empty.

    `~` is the home folder, and a relative path is one of the folder that the process stood in when it first asked: the
    variable then holds the path in full, for whatever is started later and elsewhere.
    """
    given = os.environ.get(variable)
    if not given:
        return None
    os.environ[variable] = os.path.abspath(os.path.expanduser(given))
    return Path(os.environ[variable])


def settle() -> None:
    """`located` for every variable of ours that holds a path, at the start of a command."""
    for variable in [name for name in os.environ if name.startswith("HMOE_") and name not in NO_PATHS]:
        located(variable)


def cache_dir() -> Path:
    """What can be made again (features, the synthetic corpus): `HMOE_CACHE`, else `~/.cache/hmoe`."""
    try:
        return located("HMOE_CACHE") or Path.home() / ".cache" / "hmoe"
    except RuntimeError:  # of Path.home
        raise StoreError("the cache", "there is no home folder to keep it in", "set HMOE_CACHE to a folder") from None


def results_dir() -> Path:
    """The records of trials: `HMOE_RESULTS`, else `results/` beside the package."""
    return located("HMOE_RESULTS") or PROJECT / "results"


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Makes the directory. Raises StoreError where the system refuses (full disk, read-only directory); the old file
    is then untouched and nothing is left beside it.
    """
    path = Path(path)
    # In the same directory, because a rename is atomic within one file system only. Named at random rather than by
    # `tempfile`, whose files are private to their owner: a renamed one would stay so.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError.unwritable(path, error, "free some space or choose a writable directory") from error
    finally:
        with suppress(OSError):  # what stopped the write may stop the tidying, and is what should be told
            temporary.unlink()
