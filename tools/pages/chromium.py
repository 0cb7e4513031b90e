"""A Chromium that is installed, driven by playwright, with nothing that reaches for other hosts."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Playwright, async_playwright

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""The path of Chromium, None where there is none."""
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)
_WAIT_MS = 60_000  # until a page of a busy machine counts as stuck


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run a browser; it opens pages by `new_context` and `new_page`."""
    async with driver() as playwright:
        opened = await _launch(playwright)
        try:
            yield opened
        finally:
            await opened.close()


def driver() -> AbstractAsyncContextManager[Playwright]:
    """Return a context manager that runs what drives browsers, and with its end ends those that are still open."""
    return async_playwright()


class Restarted:
    """One browser after the other by the same driver: what has crashed is replaced by a new one."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright
        self._opened: Browser | None = None

    async def running(self) -> Browser:
        """Return the browser of the last call, or a new one if there was none or it does not run any more."""
        if self._opened is None or not self._opened.is_connected():
            self._opened = await _launch(self._playwright)
        return self._opened


async def _launch(playwright: Playwright) -> Browser:
    return await playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))


@asynccontextmanager
async def logged_in(browser: Browser, link: str, **how: Any) -> AsyncIterator[Page]:
    """Give a page of a context of its own that has logged in by `link`; `how` is for `new_context`.

    What its console complains of is in the list `page.complaints`.
    """
    context = await browser.new_context(**how)
    context.set_default_timeout(_WAIT_MS)
    page = await context.new_page()
    complaints: list[str] = []

    def complain(line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            complaints.append(line.text)

    page.on("console", complain)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.complaints = complaints  # type: ignore[attr-defined]
    await page.goto(link)
    await page.get_by_role("button", name="Open the page").click()
    await page.wait_for_url("**/")
    try:
        yield page
    finally:
        await context.close()
