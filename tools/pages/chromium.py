"""A Chromium that is installed, driven by playwright, with nothing that reaches for other hosts."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

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
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))
        try:
            yield opened
        finally:
            await opened.close()


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
