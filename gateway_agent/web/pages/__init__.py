"""The pages, one file each, and the table of them."""

from gateway_agent.web.page import WebPage
from gateway_agent.web.pages import board, events, group, home, let_in, log, settings

PAGES: tuple[WebPage, ...] = (
    WebPage("/", home.handle),
    WebPage("/board", board.handle),
    WebPage("/group", group.handle, forms=True),
    WebPage("/events", events.handle),
    WebPage("/log", log.handle),
    WebPage("/settings", settings.handle),
    WebPage("/let-in", let_in.handle, forms=True),
)
