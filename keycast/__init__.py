"""The `keycast` command."""

import json
import sys

from keycast.terminal import interrupts


def main() -> None:
    """Entry point of the `keycast` program."""
    try:
        from keycast.terminal.output import guard_output

        guard_output()
        interrupts.lose_none()
        from keycast.services import garbage

        garbage.leave_alone()
        from keycast.program import program, typed_words

        program(typed_words())()
    except KeyboardInterrupt:  # while modules were loaded; a command that runs answers it itself
        if "--json" in sys.argv:
            print(json.dumps(interrupts.REFUSAL, indent=1))
        sys.exit(interrupts.INTERRUPTED)
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
