"""Corpora: a name and a folder become one tidy table, whoever recorded it.

    corpus = load("casia", "/path/to/casia")
    corpus.table[["id", "speaker", "emotion", "seconds"]]

Most corpora say in their files' names what is spoken. Their loader is a `Grammar`, a function from a path to what it
says; adding one is such a function and a line in `GRAMMARS`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd

from hmoe.base.errors import CorpusError
from hmoe.base.files import DATA, located
from hmoe.corpora import archive, casia, checking, grammars
from hmoe.corpora.archive import pack
from hmoe.corpora.checking import CheckReport
from hmoe.corpora.grammars import MARKER
from hmoe.corpora.listing import read_listing
from hmoe.corpora.table import COLUMNS, Corpus, Grammar, Utterance, files, scan, tabulate

__all__ = [
    "COLUMNS", "CheckReport", "Corpus", "Utterance", "check", "load", "names", "pack", "state", "stats",
    "totals",
]  # fmt: skip

GRAMMARS: dict[str, Grammar] = {
    "synthetic": grammars.synthetic,
    "casia": casia.grammar,
    "emodb": grammars.emodb,
    "ravdess": grammars.ravdess,
    "savee": grammars.savee,
    "crema-d": grammars.crema_d,
    "esd": grammars.esd,
    "folder": grammars.folder,
}


def names() -> tuple[str, ...]:
    """The corpora that `load` knows; `folder` and `csv` stand for any."""
    return (*GRAMMARS, "csv")


def load(name: str, root: str | os.PathLike[str] | None = None) -> Corpus:
    """The corpus `name` in the directory `root` (for `csv`: the CSV file), or in an archive that `pack` wrote.

    Without a root, the environment variable `HMOE_<NAME>` gives it (`HMOE_CASIA`, `HMOE_CREMA_D`). `synthetic` needs
    neither, and is made where it is not yet there, which takes less than a minute.

    Raises CorpusError for an unknown corpus or directory, a file whose name does not say what it is, an id that comes
    twice, and unusable audio files.
    """
    root = _root(name, root)
    if archive.is_archive(root):
        return archive.load(name, root)
    if name == "csv":
        return tabulate(name, root, read_listing(root))
    if name == "synthetic":
        _made(root)
    passed_over: dict[str, list[str]] = {}
    corpus = tabulate(name, root, scan(root, GRAMMARS[name], passed_over), passed_over)
    if name == "synthetic" and checking.manifest(corpus) != (root / MARKER).read_text():
        raise CorpusError(root, "is not as it was made", "remove it, and it will be made again")
    return corpus


def state(name: str, root: str | os.PathLike[str] | None = None) -> list[tuple[str, int, int]]:
    """Path, size and time of change (ns) of each file that `load` would read, sorted; none is opened but a CSV file.

    Empty for `synthetic`, which `load` refuses unless it is as it was made. CorpusError as from `load`.
    """
    root = _root(name, root)
    if name == "synthetic":
        return []
    if archive.is_archive(root):
        found = [root]
    else:
        found = [root, *(path for path, _ in read_listing(root))] if name == "csv" else files(root)
    folder, result = root if root.is_dir() else root.parent, []
    for path in found:
        try:
            now = path.stat()
        except OSError as error:  # a link to nothing
            raise CorpusError(path, f"cannot be read ({error.strerror})", "restore or remove it") from None
        result.append((os.path.relpath(path, folder), now.st_size, now.st_mtime_ns))
    return sorted(result)


def check(name: str, root: str | os.PathLike[str] | None = None) -> CheckReport:
    """Compare a directory or an archive with the corpus's manifest, where there is one.

    The report says what is missing, extra, truncated or altered.

    Raises CorpusError only where there is nothing to compare: for a directory that cannot be listed or has no audio.
    """
    if name == "csv":
        raise CorpusError("corpus 'csv'", "is its own manifest", "`hmoe corpus stats csv FILE` reads every file of it")
    root = _root(name, root)
    if archive.is_archive(root):
        folder = archive.unpack(name, root)
        said = {path.relative_to(folder): utterance for path, utterance in read_listing(folder / archive.TABLE)}
        return checking.compare(name, folder, said.__getitem__, manifest(name), [folder / path for path in said])
    if name == "synthetic":
        _made(root)
    return checking.compare(name, root, GRAMMARS[name], manifest(name, root))


def manifest(name: str, root: Path | None = None) -> pd.DataFrame | None:
    """Seconds and sha256 of the samples of each utterance as published, indexed by id; None where nobody recorded them.

    That of `synthetic` is written where it is made, as its samples differ in the last bit between machines.
    """
    file = root / MARKER if name == "synthetic" and root else DATA / f"{name}.csv"
    return checking.read_manifest(file.read_text()) if file.is_file() else None


def stats(corpus: Corpus) -> pd.DataFrame:
    """Utterances and their seconds (min, mean, max) for each speaker and emotion, in the corpus's order of emotions."""
    table = corpus.table.assign(emotion=pd.Categorical(corpus.table["emotion"], list(corpus.emotions), ordered=True))
    grouped = table.groupby(["speaker", "emotion"], observed=True)["seconds"]
    return grouped.agg(utterances="count", min="min", mean="mean", max="max").reset_index()


def totals(corpus: Corpus) -> list[str]:
    """In a line each: the whole, each emotion, and how many files were passed over for what reason."""
    lines = [checking.described(corpus.table)]
    for emotion in corpus.emotions:
        table = corpus.table[corpus.table["emotion"] == emotion]
        lines.append(f"{emotion}: {len(table)} utterances, {table['seconds'].sum():.1f} s")
    lines += [f"passed over: {len(items)} {reason}" for reason, items in corpus.passed_over.items()]
    twins = corpus.table[corpus.table.duplicated("sha256", keep=False)].groupby("sha256")["id"]
    return lines + [f"published twice: {' = '.join(ids)}" for _, ids in twins]


def _made(root: Path) -> None:
    try:
        _recipe().make(root)
    except CorpusError as error:
        if root == _recipe().synthetic_root() and error.what.startswith("cannot be written"):
            remedy = "free some space, or set HMOE_CACHE to a directory that can be written"
            raise CorpusError(error.where, error.what, remedy) from None
        raise


def _root(name: str, root: str | os.PathLike[str] | None) -> Path:
    if name not in names():
        raise CorpusError(f"corpus {name!r}", "unknown", f"known are {', '.join(names())}")
    variable = f"HMOE_{name.upper().replace('-', '_')}"
    kind = "CSV file" if name == "csv" else "directory"
    root = os.path.expanduser(root) if root else located(variable)
    if name == "synthetic":
        return Path(root) if root else _recipe().synthetic_root()
    if not root:
        raise CorpusError(f"corpus {name!r}", f"no {kind} given", f"give its root, or set {variable}")
    root = Path(root)
    if archive.is_archive(root):
        return root
    if not root.exists():
        raise CorpusError(root, f"no such {kind}", f"give the {kind} of the corpus {name}")
    if root.is_dir() == (name == "csv"):
        raise CorpusError(root, f"is not a {kind}", f"give the {kind} of the corpus {name}, or an archive of it")
    return root


def _recipe() -> ModuleType:
    """How the synthetic corpus is made, with Praat and filters: imported by whoever reads that corpus alone."""
    return import_module("hmoe.corpora.synthetic")
