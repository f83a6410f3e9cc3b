"""The picture of the README: the front page of the book that was built last, as `book/assets/front-page.png`."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from hmoe.base.files import atomic_write
from hmoe_book.build import BUILD, PROJECT

LIMIT = 300_000  # bytes

with sync_playwright() as playwright:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))))
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page.goto((BUILD / "html" / "book" / "index.html").as_uri(), wait_until="networkidle")
    picture = page.screenshot()
if len(picture) > LIMIT:
    raise SystemExit(f"the picture has {len(picture):,} bytes, expected at most {LIMIT:,}")
target = PROJECT / "book" / "assets" / "front-page.png"
atomic_write(target, picture)
print(f"{target.relative_to(Path.cwd())}: {len(picture):,} bytes")
