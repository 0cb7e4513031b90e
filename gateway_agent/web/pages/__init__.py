"""The pages, one file each, and the table of them."""

from gateway_agent.web.page import WebPage
from gateway_agent.web.pages import home

PAGES: tuple[WebPage, ...] = (WebPage("/", home.handle),)
