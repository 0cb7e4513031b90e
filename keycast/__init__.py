"""The `keycast` command."""

import json
import sys

from keycast.terminal.output import guard_output


def main() -> None:
    """Entry point of the `keycast` program."""
    guard_output()
    try:
        from keycast.program import program, typed_words

        program(typed_words())()
    except ModuleNotFoundError as missing:
        from keycast.terminal import extras

        extra = extras.of_module(missing.name or "")
        if extra is None:
            raise
        sentence = extras.sentence([str(missing.name)], [extra])
        if "--json" in sys.argv:
            print(json.dumps({"code": extras.MISSING, "error": sentence}, indent=1))
        else:
            print(f"keycast: {sentence}", file=sys.stderr)
        sys.exit(extras.exit_code(sys.argv[1:]))
    finally:
        sys.stdout.flush()
