"""A corpus on disk against its manifest: which utterances are missing, extra, truncated or altered."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora.audio import Truncated
from hmoe.corpora.table import Corpus, Grammar, files, measure

COLUMNS = ["id", "seconds", "sha256"]


@dataclass
class CheckReport:
    """What differs; each list holds ids or files with the reason, sorted. `expected` is None without a manifest."""

    name: str
    root: Path
    found: int
    expected: int | None
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not any(self._kinds().values())

    def lines(self) -> list[str]:
        """A summary, then one line for each thing that is wrong."""
        if self.expected is None:
            against = "there is no manifest of it, so only names and readability were checked"
        else:
            against = f"the manifest has {self.expected}"
        verdict = "all well" if self.ok else ", ".join(f"{len(v)} {k}" for k, v in self._kinds().items() if v)
        return [
            f"{self.name} at {self.root}: {self.found} audio files, {against}: {verdict}",
            *(f"{kind}: {item}" for kind, items in self._kinds().items() for item in items),
        ]

    def _kinds(self) -> dict[str, list[str]]:
        return {kind: getattr(self, kind) for kind in ("missing", "extra", "truncated", "altered", "unreadable")}


def manifest(corpus: Corpus) -> str:
    """The CSV text by which another copy of the corpus can be checked: id, seconds, sha256 of the samples."""
    return corpus.table[COLUMNS].to_csv(index=False, lineterminator="\n", float_format="%.7f")


def read_manifest(text: str) -> pd.DataFrame:
    """A manifest as a table indexed by id."""
    return pd.read_csv(io.StringIO(text), dtype={"id": str, "sha256": str}).set_index("id")


def compare(
    name: str, root: Path, grammar: Grammar, expected: pd.DataFrame | None, paths: list[Path] | None = None
) -> CheckReport:
    """Every audio file under `root` (or `paths`) against a manifest; a bad file is a line of the report, not its end.

    CorpusError only where nothing can be compared: `root` cannot be listed, or holds no audio at all.
    """
    paths = files(root) if paths is None else paths
    if not paths:
        raise CorpusError(root, "no audio files found", f"give the directory of the .wav files of {name!r}")
    report = CheckReport(name, root, len(paths), None if expected is None else len(expected))
    placed = _place(root, paths, grammar, expected, report)
    if expected is not None:
        report.missing = sorted(set(expected.index) - {utterance for utterance, _ in placed})
    taken: dict[str, Path] = {}
    measured = zip(placed, measure(path for _, path in placed), strict=True)
    # Of several files of one utterance, one with the published samples is it and the others are extra.
    for (utterance, path), found in sorted(measured, key=lambda row: (row[0][0], _differs(expected, *row), row[0][1])):
        where = f"{utterance} ({path})"
        if utterance in taken:
            report.extra.append(f"{path}: {utterance} is also {taken[utterance]}")
            continue
        taken[utterance] = path
        if isinstance(found, Truncated):
            report.truncated.append(f"{where}: {found.what}")
        elif isinstance(found, AudioError):
            report.unreadable.append(f"{where}: {found.what}")
        elif _differs(expected, (utterance, path), found):
            # A file that was cut and saved again has a sound header: only the manifest knows that it was longer.
            published = expected.at[utterance, "seconds"]
            if found[0] < published - 1e-6:
                report.truncated.append(f"{where}: {found[0]:.3f} of {published:.3f} s")
            else:
                report.altered.append(f"{where}: other samples than published")
    report.extra.sort()
    return report


def _differs(expected: pd.DataFrame | None, placed: tuple[str, Path], found: tuple[float, str] | AudioError) -> bool:
    if isinstance(found, AudioError):
        return True
    return expected is not None and found[1] != expected.at[placed[0], "sha256"]


def _place(
    root: Path, paths: Iterable[Path], grammar: Grammar, expected: pd.DataFrame | None, report: CheckReport
) -> list[tuple[str, Path]]:
    """Which utterance each file is; what is none becomes an extra of the report."""
    placed = []
    for path in paths:
        try:
            utterance = grammar(path.relative_to(root)).id
        except CorpusError as error:
            report.extra.append(f"{path}: {error.what}")
            continue
        if expected is not None and utterance not in expected.index:
            report.extra.append(f"{path}: {utterance} is not in the manifest")
        else:
            placed.append((utterance, path))
    return placed
