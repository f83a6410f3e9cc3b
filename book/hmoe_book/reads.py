"""Which files a chapter reads: written down by its kernel, so that it runs again when one of them changes.

Only Python's library is imported here: a kernel starts with it, and a chapter's own imports are its own.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

LISTED = {"os.listdir", "os.scandir", "glob.glob"}


def trace(report: str, *folders: str) -> None:
    """From now on, write a line to the file `report` for each file in the folders when it is first opened to be read.

    So is one that is not there, and a folder that is listed.
    """
    places = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    known: set[str] = set()
    out = open(report, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 -- for as long as the kernel lives

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR):
                return
        elif event in LISTED:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | bytes | os.PathLike):
            name = os.path.realpath(os.fsdecode(path) or ".")
            if (name + os.sep).startswith(places) and name not in known:
                known.add(name)  # first, since reading it is an event too
                out.write(f"{state(Path(name))} {name}\n")

    sys.addaudithook(hook)


def state(path: Path) -> str:
    """12 hexadecimal digits that change with what is in a file, or with the names in a folder; zeros for nothing."""
    try:
        names = sorted(os.listdir(path)) if path.is_dir() else None
        content = path.read_bytes() if names is None else "\n".join(filter(lasting, names)).encode()
    except OSError:
        return "0" * 12
    return hashlib.sha256(content).hexdigest()[:12]


def lasting(name: str) -> bool:
    """Not what is only there while a record is being written."""
    return not name.endswith((".lock", ".tmp"))
