"""The book read on a phone; a file of its own, since another process reads another file at the same time."""

from __future__ import annotations

import reading


class TestOnAPhone(reading.Pages):
    size = reading.PHONE
