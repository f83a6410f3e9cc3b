"""A corpus on disk against its manifest: which utterances are missing, extra, truncated or altered."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from hmoe.base.errors import AudioError, CorpusError
from hmoe.corpora.audio import Truncated
from hmoe.corpora.table import UNNAMED, Corpus, Grammar, PassedOver, Utterance, Walk, counted, measure, shown, walk

COLUMNS = ["id", "seconds", "sha256"]
KINDS = ("missing", "extra", "truncated", "altered", "unreadable", "duplicates", "unread")


@dataclass
class CheckReport:
    """What differs; each list holds ids or files with the reason, sorted. `expected` is None without a manifest.

    `duplicates` are bit-identical to another recording, `unread` look like recordings and are of a kind that is not
    read. `content` says what is there: utterances, emotions, speakers, sentences, seconds. No fault are `passed_over`,
    files of the corpus that are no utterances, by the reason why, `links` that lead out of it, and `twins`, recordings
    that it has published under two names.
    """

    name: str
    root: Path
    found: int
    expected: int | None
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    content: str = ""
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)

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
            *([f"passed over: {counted(self.passed_over)}"] if self.passed_over else []),
            *(f"link out of the corpus: {item}" for item in self.links),
            *(f"published twice: {item}" for item in self.twins),
        ]

    def _kinds(self) -> dict[str, list[str]]:
        return {kind: getattr(self, kind) for kind in KINDS}


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
    walked = walk(root) if paths is None else Walk(paths, [], [])
    if not walked.audio:
        also = f"; {len(walked.unread)} of another kind, which is not read" if walked.unread else ""
        raise CorpusError(root, f"no audio files found{also}", f"give the directory of the .wav files of {name!r}")
    report = CheckReport(name, root, len(walked.audio), None if expected is None else len(expected))
    report.unread = [f"{path}: convert it to WAV" for path in walked.unread]
    report.links = [f"{path} -> {os.path.realpath(path)}" for path in walked.links]
    placed = _place(root, walked.audio, grammar, expected, report)
    if expected is not None:
        report.missing = sorted(set(expected.index) - {utterance.id for utterance, _ in placed})
    taken: dict[str, Path] = {}
    sounds: dict[str, Path] = {}
    good: list[tuple[Utterance, float]] = []
    measured = zip(placed, measure(path for _, path in placed), strict=True)
    order = sorted(measured, key=lambda row: (row[0][0].id, _differs(expected, *row), row[0][1]))
    # Of several files of one utterance, one with the published samples is it and the others are extra.
    for (utterance, path), found in order:
        where = f"{utterance.id} ({path})"
        if not isinstance(found, AudioError) and found[1] in sounds:
            same = f"{path}: the same recording as {sounds[found[1]]}"
            if utterance.id in taken or name in UNNAMED:
                report.duplicates.append(same)
                continue
            report.twins.append(same)
        if utterance.id in taken:
            report.extra.append(f"{path}: {utterance.id} is also {taken[utterance.id]}")
            continue
        taken[utterance.id] = path
        if isinstance(found, Truncated):
            report.truncated.append(f"{where}: {found.what}")
            continue
        if isinstance(found, AudioError):
            report.unreadable.append(f"{where}: {found.what}")
            continue
        sounds[found[1]] = path
        good.append((utterance, found[0]))
        if _differs(expected, (utterance, path), found):
            # A file that was cut and saved again has a sound header: only the manifest knows that it was longer.
            published = expected.at[utterance.id, "seconds"]
            if found[0] < published - 1e-6:
                report.truncated.append(f"{where}: {found[0]:.3f} of {published:.3f} s")
            else:
                report.altered.append(f"{where}: other samples than published")
    report.extra.sort()
    report.duplicates.sort()
    report.content = described(
        pd.DataFrame([(*u, seconds) for u, seconds in good], columns=[*Utterance._fields, "seconds"])
    )
    return report


def described(table: pd.DataFrame) -> str:
    """What a table of utterances holds, in a line."""
    names = [f"{table[column].nunique()} {column}s" for column in ("emotion", "speaker", "sentence")]
    return ", ".join([f"{len(table)} utterances", *names, f"{table['seconds'].sum():.1f} s"])


def _differs(
    expected: pd.DataFrame | None, placed: tuple[Utterance, Path], found: tuple[float, str] | AudioError
) -> bool:
    if isinstance(found, AudioError):
        return True
    return expected is not None and found[1] != expected.at[placed[0].id, "sha256"]


def _place(
    root: Path, paths: Iterable[Path], grammar: Grammar, expected: pd.DataFrame | None, report: CheckReport
) -> list[tuple[Utterance, Path]]:
    """Which utterance each file is; what is none becomes an extra of the report."""
    placed = []
    for path in paths:
        try:
            utterance = grammar(path.relative_to(root))
        except PassedOver as error:
            report.passed_over.setdefault(error.what, []).append(shown(path, root))
            continue
        except CorpusError as error:
            report.extra.append(f"{path}: {error.what}")
            continue
        if expected is not None and utterance.id not in expected.index:
            report.extra.append(f"{path}: {utterance.id} is not in the manifest")
        else:
            placed.append((utterance, path))
    return placed
