"""Where the records of a corpus are kept, and what has changed since the last ones.

The corpora of the book have a folder in the project, `results/<corpus>`. Anybody else's corpus has one outside of it,
`<name>-<digest>`: the digest names its recordings and labels, so records of a corpus that has changed since stay where
they are, and are read no more.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pandas as pd

from hmoe import corpora
from hmoe.base.errors import ConfigError, StoreError
from hmoe.base.files import PROJECT, atomic_write
from hmoe.corpora import Corpus
from hmoe.study.store import Store, kind

BOOK = ("casia", "synthetic", "ravdess")
LABELS = ["id", "sha256", "speaker", "emotion", "sentence"]
LISTED = "predictions/corpus.csv"  # in a folder of records: whose they are
SHOWN = 3  # recordings that a message names


def root_of(name: str, results: Path | None = None) -> Path:
    """`results`, else `HMOE_RESULTS`, else for the corpora of the book `results/` of the project, and for all others
    `hmoe/results` of the user's data (`XDG_DATA_HOME`, else `~/.local/share`)."""
    if results or os.environ.get("HMOE_RESULTS"):
        return Path(results or os.environ["HMOE_RESULTS"])
    if name in BOOK:
        return PROJECT / "results"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hmoe" / "results"


def digest(corpus: Corpus) -> str:
    """8 hexadecimal digits that name the recordings of a corpus and their labels, wherever the files are."""
    return hashlib.sha256(corpus.table[LABELS].to_csv(index=False).encode()).hexdigest()[:8]


def as_published(corpus: Corpus, whole: bool) -> bool:
    """Whether a corpus of the book is what the book's records are of: no recording altered; `whole`: none missing."""
    manifest = corpora.manifest(corpus.name)
    if corpus.name not in BOOK or manifest is None:
        return corpus.name in BOOK
    known = manifest["sha256"].reindex(corpus.table["id"])
    return bool((known.to_numpy() == corpus.table["sha256"].to_numpy()).all()) and not (
        whole and len(corpus) != len(manifest)
    )


def checked(name: str | None) -> str | None:
    """A name for a folder of records. ConfigError for what is none."""
    if name is not None and not re.fullmatch(r"\w[\w .-]*", name):
        raise ConfigError("--name", f"got {name!r}", "use letters, digits, - and _, e.g. --name call-centre")
    return name


def folder(corpus: Corpus | str, root: Path, device: str, name: str | None, whole: bool = True) -> str:
    """The name of the folder of a corpus's records under `root`; of one that is known by its name alone, the newest."""
    title = checked(name) or (corpus if isinstance(corpus, str) else corpus.name)
    if isinstance(corpus, Corpus):
        return title if not name and as_published(corpus, whole) else f"{title}-{digest(corpus)}"
    own = [] if not name and title in BOOK else earlier(title, root, device)
    return own[-1] if own else title


def earlier(title: str, root: Path, device: str = "cpu") -> list[str]:
    """The folders `<title>-<digest>` under `root` that hold records of a kind of device, the newest last."""
    tail = "" if kind(device) == "cpu" else f"-{kind(device)}"
    pattern = re.compile(re.escape(title) + "-[0-9a-f]{8}" + re.escape(tail))
    found = [path for path in root.glob(f"{title}-*") if pattern.fullmatch(path.name)]
    return [path.name.removesuffix(tail) for path in sorted(found, key=lambda path: _written(path))]


def _written(path: Path) -> float:
    listed = path / LISTED
    return (listed if listed.exists() else path).stat().st_mtime


def enter(store: Store, corpus: Corpus) -> str:
    """Make a corpus's folder its newest. Returns what changed since the last records under its name, "" if nothing."""
    listed, title = store.folder / LISTED, re.sub(r"-[0-9a-f]{8}$", "", store.name)
    if title == store.name:
        return ""
    before = [each for each in earlier(title, store.root, store.device) if each != store.name]
    said = ""
    if before and not listed.exists():
        old = Store(before[-1], store.root, store.device).folder / LISTED
        said = changes(old, corpus)
        said += f"; the records of before stay in {old.parent.parent}, these go to {store.folder}"
    atomic_write(listed, corpus.table[LABELS].to_csv(index=False))
    return said


def changes(listed: Path, corpus: Corpus) -> str:
    """What a corpus has now that it had not when `listed` was written, and the reverse, in words."""
    try:
        old = pd.read_csv(listed, dtype=str, keep_default_na=False).set_index("id")[LABELS[1:]]
    except FileNotFoundError:
        return f"{corpus.name} has changed"
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(listed, f"cannot be read ({error})", "delete it") from None
    new = corpus.table.set_index("id")[LABELS[1:]].astype(str)
    both = old.index.intersection(new.index)
    differ = (old.loc[both] != new.loc[both]).any(axis=1)
    kinds = {
        "added": new.index.difference(old.index),
        "gone": old.index.difference(new.index),
        "altered or labelled otherwise": both[differ],
    }
    parts = [f"{len(ids)} {word} ({_named(list(ids))})" for word, ids in kinds.items() if len(ids)]
    return f"{corpus.name} has changed since its last records: {', '.join(parts) or 'nothing that is recorded'}"


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (f", and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
