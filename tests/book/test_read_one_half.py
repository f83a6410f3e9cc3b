"""Every other page of the book; a file of its own, since another process reads the others at the same time."""

from __future__ import annotations

import reading


class TestOneHalf(reading.Pages):
    paths = reading.PAGES[::2]
