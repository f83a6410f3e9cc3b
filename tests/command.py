"""`hmoe` as a user calls it, in this process."""

from __future__ import annotations

import sys

import pytest

from hmoe import __main__ as cli


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout, stderr of `hmoe ...`, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hmoe", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused command says."""
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("hmoe: ")
    assert err.count("\n") == 1
    return err
