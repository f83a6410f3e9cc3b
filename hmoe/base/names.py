"""Names that people type: compared without regard to case, with a guess at what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hmoe.base.errors import ConfigError

SHOWN = 20  # names that an error lists before it only points to the list


def chosen(given: str, known: Iterable[str], where: str, what: str = "") -> str:
    """The one of `known` that is meant by `given`. ConfigError at `where` if there is none, with a guess.

    `what` names a `hmoe list` that has them all, for errors that cannot list them.
    """
    names = list(known)
    if given in names:
        return given
    folded = {name.casefold(): name for name in names}
    if given.casefold() in folded:
        return folded[given.casefold()]
    guesses = difflib.get_close_matches(given.casefold(), folded, 3, 0.6)
    guesses += [name for name in folded if given and given.casefold() in name and name not in guesses][
        : 3 - len(guesses)
    ]
    guess = f"did you mean {' or '.join(folded[name] for name in guesses)}? " if guesses else ""
    between = "; " if any(", " in name for name in names) else ", "
    listed = f"known: {between.join(names)}" if len(names) <= SHOWN or not what else f"`hmoe list {what}` has all"
    raise ConfigError(where, f"got {given!r}", guess + listed)
