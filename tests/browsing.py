"""A real Chromium for the tests of the page, and what is looked at in each of its pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

expect.set_options(timeout=20_000)  # the first answer imports what it needs, on a machine that may be busy

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not there (Debian: apt install chromium): the page is not tested in a browser"
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE, NARROW = (1280, 800), (390, 844)
TIMEOUT_MS = 20_000


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page asked for and complained of."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> Page:
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        return page

    def faults(self, *, but: str | None = None) -> list[str]:
        """What was fetched from elsewhere, and what the console says, `but` for what has these words: faults of scripts
        and of the policy."""
        ours = ("http://127.0.0.1:", "blob:", "data:")
        elsewhere = [url for url in self.requests if not url.startswith(ours)]
        return elsewhere + [said for said in self.complaints if but is None or but not in said]


class Pages:
    """Pages of one browser: those with the same options share a context, which is slow to make, but no storage."""

    def __init__(self, browser: Browser, *scripts: str) -> None:
        self._browser, self._scripts = browser, scripts
        self._contexts: dict[str, BrowserContext] = {}
        self._open: list[Page] = []

    def open(self, size: tuple[int, int] = WIDE, **options: Any) -> Page:
        key = repr(sorted(options.items()))
        if key not in self._contexts:
            self._contexts[key] = self._browser.new_context(**options)
            for script in self._scripts:
                self._contexts[key].add_init_script(script)
        page = self._contexts[key].new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        self._open.append(page)
        return page

    def close(self) -> None:
        """Close what is open, and forget what it stored."""
        for page in self._open:
            if not page.is_closed() and page.url.startswith("http"):
                page.evaluate("() => { Storage.prototype.setItem = () => {}; localStorage.clear(); }")
            page.close()
        self._open.clear()


def axe() -> str:
    bundled = resources.files("axe_playwright_python") / "axe.min.js"
    return bundled.read_text(encoding="utf-8")


def findings(page: Page) -> list[str]:
    """What axe, which is in the page, finds that is serious or critical."""
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
