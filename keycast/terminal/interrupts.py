"""What Ctrl-C does to a command that is not at a place where it can answer it."""

import os
import signal
import sys

INTERRUPTED = 130
"""The exit code of a command that a person ended by Ctrl-C before it was done."""

REFUSAL = {"code": "cancelled", "error": "Ended by Ctrl-C before it was done."}
"""The answer of such a command in JSON."""

_AGAIN_S = 0.05


def lose_none() -> None:
    """Let each Ctrl-C count, also one at a moment at which Python can only report what it raises.

    That is so while an extension calls back, as pydantic does when it makes a model, and in finalizers: Python prints
    `Exception ignored` there and goes on, and a gateway would start as if nobody had pressed anything.
    """
    sys.unraisablehook = _on_unraisable


def _on_unraisable(lost: "sys.UnraisableHookArgs") -> None:
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    from threading import Timer  # needed almost never, and this module is loaded before Ctrl-C has an answer

    again = Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))  # raised here it would be lost, too
    again.daemon = True
    again.start()
