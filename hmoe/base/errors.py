"""Every error that a user can cause, each with one line that says what was given and what to do."""

from __future__ import annotations

from typing import Self


class HmoeError(Exception):
    """Base of all errors that `hmoe` raises on purpose.

    The message is one line: *where* (a file, a parameter), *what* was found, and the *remedy*.
    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, where: object, what: str, remedy: str = "") -> None:
        what = " ".join(what.split())  # what other libraries say of a file may be many lines
        self.where, self.what, self.remedy = str(where), what, remedy
        super().__init__(f"{where}: {what}" + (f"; {remedy}" if remedy else ""))

    @classmethod
    def unwritable(cls, where: object, error: OSError, remedy: str) -> Self:
        """The system refused to write `where`: a full disk, a directory that is read-only."""
        return cls(where, f"cannot be written ({error.strerror or error})", remedy)

    def __reduce__(self) -> tuple:
        # joblib and dask carry errors between processes; Exception's default would replay the message alone.
        return type(self), (self.where, self.what, self.remedy)


class AudioError(HmoeError):
    """A file that is not usable speech: empty, truncated, silent, too short, too long, not audio."""


class CorpusError(HmoeError):
    """A corpus folder, manifest or label that does not fit what was asked for."""


class ConfigError(HmoeError):
    """A configuration field with a value that cannot be."""


class ProtocolError(HmoeError):
    """Folds that cannot be made, or that would leak."""


class StoreError(HmoeError):
    """A record that could not be written or read; what was there before is intact."""


class TrainingError(HmoeError):
    """Training that went wrong: a loss that is not finite, a checkpoint that does not fit."""
