"""Every page of the book, read on a phone, by day and by night. Without Chromium the tests are skipped, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest
import reading
from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="module")
def contexts(browser: Browser) -> dict[str, BrowserContext]:
    return reading.contexts(browser, reading.PHONE)


@pytest.mark.parametrize("mode", reading.MODES)
@pytest.mark.parametrize("path", reading.PAGES, ids=lambda path: Path(path).stem)
def test_page(path: str, mode: str, contexts: dict[str, BrowserContext], html: Path, site: str) -> None:
    reading.check(path, contexts[mode], html, site)
