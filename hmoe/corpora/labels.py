"""The common set of emotions, and what other people call them.

Every corpus's labels become words of `COMMON`; the first six are CASIA's, in the order of the paper's table 2. The
table below holds the names that are found on disks, compared without regard to case, spaces and hyphens. Where a
corpus uses codes (`W` for Wut, `05` for angry), its own loader turns them into these words.
"""

from __future__ import annotations

from hmoe.base.errors import CorpusError

NAMES = {
    "anger": ("angry", "ang", "生气", "愤怒"),
    "sadness": ("sad", "伤心", "悲伤"),
    "happiness": ("happy", "hap", "joy", "joyful", "快乐", "高兴"),
    "neutral": ("neu", "neutrality", "中立", "中性"),
    "fear": ("fearful", "afraid", "anxiety", "恐惧", "害怕"),
    "surprise": ("surprised", "sur", "pleasantsurprise", "惊喜", "惊讶", "吃惊"),
    "disgust": ("disgusted", "dis", "厌恶"),
    "calm": (),
    "contempt": ("contemptuous",),
    "boredom": ("bored",),
    "excitement": ("excited", "exc"),
    "frustration": ("frustrated", "fru"),
}
COMMON = tuple(NAMES)
_LOOKUP = {alias: name for name, aliases in NAMES.items() for alias in (name, *aliases)}


def emotion(label: str, where: object) -> str:
    """The common name of a label: "Angry" is "anger". CorpusError, naming `where`, if there is none."""
    known = _LOOKUP.get(label.casefold().translate({ord(c): None for c in " -_"}))
    if known is None:
        raise CorpusError(where, f"unknown emotion {label!r}", f"rename it to one of {', '.join(COMMON)}")
    return known
