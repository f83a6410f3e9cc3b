"""How much of everything is run, and where its records go: the paper's protocol, or minutes to read along."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hmoe import corpora
from hmoe.base.errors import ConfigError
from hmoe.base.files import cache_dir
from hmoe.base.source import Needs
from hmoe.config import Config
from hmoe.corpora import Corpus
from hmoe.readings import READINGS
from hmoe.study import home
from hmoe.study.experiments import Experiment, Row
from hmoe.study.store import Store


@dataclass(frozen=True)
class Profile:
    """How much of everything: `full` is the paper's protocol, `fast` is for reading along and for tests."""

    name: str
    seeds: tuple[int, ...]
    sentences: int | None = None  # of each speaker and emotion, the first so many; None: all
    folds: int | None = None  # of each protocol, the first so many; None: all
    changes: dict[str, Any] = field(default_factory=dict)  # what it changes in every configuration
    frames: dict[str, Any] = field(default_factory=dict)  # ... and further in rows that read frames, the slowest

    def config(self, row: Row, **overrides: Any) -> Config:
        """The configuration of a row in this profile. The profile goes before the row, overrides before both."""
        config = row.config(**{**self.changes, **overrides})
        return config.replace(**{**self.frames, **overrides}) if READINGS[config.reading].sequence else config

    def twins(self, experiment: Experiment, **overrides: Any) -> dict[str, str]:
        """Rows that differ in nothing but what is set for all: their names, and that of the row they have become."""
        first: dict[tuple[str, str], Row] = {}
        result = {}
        for row in experiment.rows:
            one = first.setdefault((self.config(row, **overrides).key(), row.protocol), row)
            if row.config() != one.config():
                result[row.name] = one.name
        return result


PROFILES = {
    "full": Profile("full", seeds=(0, 1, 2)),
    "fast": Profile(
        "fast",
        seeds=(0,),
        sentences=20,
        folds=2,
        changes={"epochs": 12, "lr": 1e-3, "copies": 4},
        frames={"epochs": 4, "frame_stride": 8},
    ),
}


def profile(name: str) -> Profile:
    if name not in PROFILES:
        raise ConfigError("profile", f"got {name!r}", f"known: {', '.join(PROFILES)}")
    return PROFILES[name]


def load(corpus: str, root: str | Path | None, profile: Profile) -> Corpus:
    """A corpus as the profile wants it."""
    return cut(corpora.load(corpus, root), profile)


def cut(whole: Corpus, profile: Profile) -> Corpus:
    """The utterances of a corpus that the profile wants."""
    if profile.sentences is None:
        return whole
    before = whole.table.sort_values(["sentence", "id"]).groupby(["speaker", "emotion"]).cumcount().sort_index()
    return whole.subset(before < profile.sentences)


def store_for(
    corpus: Corpus | str, profile: Profile, device: str = "cpu", name: str | None = None, results: Path | None = None
) -> Store:
    """The records of a corpus; of one that is given by its name alone, the newest (`home`).

    `full` trials are kept; those of `fast` are scratch, and forgotten when the code changes. `name` and `results` are
    the user's words for what the corpus is called and where records go.
    """
    if profile.name == "full":
        root = home.root_of(corpus if isinstance(corpus, str) else corpus.name, results)
    else:
        root = cache_dir() / "trials" / profile.name / source_digest()
    whole = profile.sentences is None
    return Store(home.folder(corpus, root, device, name, whole), root, device)


@cache
def source_digest() -> str:
    """Names the code that trains and tests, with the packages behind it; pages and reports are no part of it."""
    return Needs.of("import hmoe.study.trial, hmoe.study.robustness").digest()
