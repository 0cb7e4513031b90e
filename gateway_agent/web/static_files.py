"""The files that pages need beside their text: read once, sent compressed, and kept by browsers.

The URL of a file has a part that changes with the content of any of them. A path of a request is only looked up in a
table, so it cannot lead to another file.
"""

import gzip
import hashlib
from mimetypes import guess_type
from pathlib import Path

from aiohttp import web

from gateway_agent.web import tuning

_FOLDER = Path(__file__).with_name("static")
_DIGITS = 12
_WORTH_IT = ("text/", "application/javascript", "application/json", "image/svg+xml")


class StaticFiles:
    """The files in the folder `static`."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        self._octets = {name: path.read_bytes() for name, path in found.items()}
        digest = hashlib.sha256()
        for name, octets in self._octets.items():
            digest.update(b"%s %d " % (name.encode(), len(octets)) + octets)
        self._digest = digest.hexdigest()[:_DIGITS]
        self._compressed: dict[str, bytes] = {}

    def url(self, name: str) -> str:
        """Return the path at which a file is served. Raises KeyError for a file that is not there."""
        if name not in self._octets:
            raise KeyError(name)
        return f"/static/{self._digest}/{name}"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer with the file of a request."""
        name = request.match_info["name"]
        if request.match_info["digest"] != self._digest or name not in self._octets:
            raise web.HTTPNotFound
        kind = guess_type(name)[0] or "application/octet-stream"
        headers = {"Cache-Control": f"public, max-age={tuning.STATIC_AGE_S}, immutable", "Vary": "Accept-Encoding"}
        octets = self._octets[name]
        if kind.startswith(_WORTH_IT) and "gzip" in request.headers.get("Accept-Encoding", ""):
            octets = self._compressed.setdefault(name, gzip.compress(octets, mtime=0))
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=octets, content_type=kind, headers=headers)
