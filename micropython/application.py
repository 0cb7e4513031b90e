"""The application of a board: a module `app` with `async def main(node)` (`device_agent.api.Node`) and, if it wants,
`on_event(name, values)`.

What it raises is printed, with its traceback, and neither the agent nor the keys go down with it: it is started again
after half a minute, then after longer. What it started before, tasks and callbacks, is its own affair.
"""

import sys

PAUSE_MIN_S = 30
PAUSE_MAX_S = 3600
_LONGER = 4  # times: an application that only joins and fails stays below the joins that a gateway takes in an hour


class Application:
    """The module `app`, imported when it is first run."""

    def __init__(self):
        self._module = None

    def on_event(self, name, values):
        """Hand on what the node tells, if the application wants to know."""
        listener = getattr(self._module, "on_event", None)
        if listener:
            listener(name, values)

    async def keep_running(self, node):
        """Run it until it returns, as often as that takes. Ends at once where there is none."""
        import asyncio

        from device_agent.api import show

        pause = PAUSE_MIN_S
        while True:
            try:
                if self._module is None:
                    self._module = _load()
                if self._module:
                    await self._module.main(node)
                return
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, it is the application's
                show(error)
                print("the application is started again in", pause, "s; the node goes on")
            await asyncio.sleep(pause)
            pause = min(_LONGER * pause, PAUSE_MAX_S)


def _load():
    # the module, False where there is none
    sys.modules.pop("app", None)  # what is left of one that failed halfway
    try:
        import app  # pyright: ignore[reportMissingImports] - of whoever uses the board
    except ImportError as error:
        if "'app'" not in str(error):
            raise
        return False
    return app
