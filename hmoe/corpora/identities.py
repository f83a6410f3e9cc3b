"""One person, one name: who is the same although written differently, and who may be."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable


def clean(name: str) -> str:
    """The name on one line: no control or invisible characters, single spaces, none at the ends."""
    return " ".join("".join(" " if unicodedata.category(c).startswith("C") else c for c in name).split())


def alike(names: Iterable[str]) -> dict[str, str]:
    """Each name with the spelling that all of its kind share: the most frequent one, cleaned.

    Names are of a kind that differ in case, spaces at the ends or doubled, in full-width letters (Unicode's NFKC), or
    in how an accent is encoded, as names of files do between a Mac and other machines.
    """
    counts = Counter(names)
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in counts.items():
        kinds[_key(name)][clean(name)] += count
    chosen = {key: min(spellings, key=lambda name: (-spellings[name], name)) for key, spellings in kinds.items()}
    return {name: chosen[_key(name)] for name in counts}


def twins(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Names that differ in punctuation, spaces, accents or leading zeros alone: perhaps one person, perhaps not."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        letters = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if c.isalnum())
        groups[re.sub(r"(?<!\d)0+(?=\d)", "", letters)].append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _key(name: str) -> str:
    return clean(unicodedata.normalize("NFKC", name)).casefold()
