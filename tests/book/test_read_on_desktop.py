"""The book read at a desk; a file of its own, since another process reads another file at the same time."""

from __future__ import annotations

import reading


class TestOnADesktop(reading.Pages):
    size = reading.DESKTOP
