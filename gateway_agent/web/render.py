"""Makes pages of templates: everything in them is escaped, and a form has its token."""

import asyncio
import time
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from aiohttp import web
from markupsafe import Markup

from gateway_agent.web import tuning
from gateway_agent.web.log_in import FORM_FIELD, LOG_IN, is_on_this_machine
from gateway_agent.web.static_files import StaticFiles

_TEMPLATES = Path(__file__).with_name("templates")

TEMPLATES: web.AppKey[jinja2.Environment] = web.AppKey("TEMPLATES", jinja2.Environment)
STATIC: web.AppKey[StaticFiles] = web.AppKey("STATIC", StaticFiles)


def environment(static: StaticFiles) -> jinja2.Environment:
    """Return where templates come from. An unknown name in a template is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        finalize=shown,
    )
    made.globals["static"] = static.url
    return made


def shown(value: object) -> object:
    """Return a value as pages show it: in a text each character that does not print is a number, such as U+202E.

    A name could turn the text after it around, or look like another one.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(each if each.isprintable() or each in "\n\t" else f"U+{ord(each):04X}" for each in value)


async def render(request: web.Request, name: str, *, status: int = 200, **context: Any) -> web.Response:
    """Return the page that the template `name` makes of `context`.

    Templates know besides: `static(file)`, `form_token()` (the hidden field of each form) and `form_token_text()`,
    `page_path`, `logged_in`, and `is_plain`, which is True if others on the network can read along.
    """
    log_in = request.app[LOG_IN]

    def token_text() -> str:
        return log_in.form_token(request)

    def token() -> Markup:
        return Markup('<input type="hidden" name="{}" value="{}">').format(FORM_FIELD, token_text())

    pieces = (
        request.app[TEMPLATES]
        .get_template(name)
        .generate(
            context,
            form_token=token,
            form_token_text=token_text,
            page_path=request.path,
            logged_in=log_in.session_of(request) is not None,
            is_plain=not request.secure and not is_on_this_machine(request),
        )
    )
    text: list[str] = []
    began = time.monotonic()
    for piece in pieces:
        text.append(piece)
        if time.monotonic() - began > tuning.RENDER_TURN_S:
            await asyncio.sleep(0)
            began = time.monotonic()
    octets = "".join(text).encode(errors="replace")
    response = web.Response(
        body=octets,
        status=status,
        content_type="text/html",
        charset="utf-8",
        zlib_executor_size=tuning.COMPRESSED_AT_ONCE,
    )
    if len(octets) >= tuning.COMPRESSED_FROM:
        response.enable_compression()
    return response


def see_other(path: str) -> NoReturn:
    """Send the browser to a page of ours by GET, as the answer to a form. Raises HTTPSeeOther."""
    raise web.HTTPSeeOther(path)
