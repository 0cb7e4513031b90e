"""A Chromium that is installed, driven by playwright, with nothing that reaches for other hosts."""

import contextlib
import os
import shutil

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt install chromium")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)
WAIT_MS = 60_000  # until a page of a busy machine counts as stuck


@contextlib.asynccontextmanager
async def browser():
    """A browser, from which a test opens pages by `new_context` and `new_page`."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=PROGRAM, args=list(FLAGS))
        try:
            yield opened
        finally:
            await opened.close()


@contextlib.asynccontextmanager
async def logged_in(browser, link, **how):
    """A page of a fresh context that has used `link`; `how` is for `new_context`. Its console stays free of errors."""
    context = await browser.new_context(**how)
    context.set_default_timeout(WAIT_MS)
    page = await context.new_page()
    complaints = []
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(link)
    await page.get_by_role("button", name="Open the page").click()
    await page.wait_for_url("**/")
    page.complaints = complaints
    yield page
    await context.close()
