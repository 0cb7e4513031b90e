"""The `keycast` command."""

import sys


def main() -> None:
    """Entry point of the `keycast` program."""
    from tools.keycast.program import program

    program(sys.argv[1:])()
