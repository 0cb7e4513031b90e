"""The application of a board: a module `app` with `async def main(node)`, with a `device_agent.api.Node`, and
optionally `on_event(name, values)`.

An exception of the application is printed with its traceback, and the agent goes on. The application is started again
after half a minute, later after longer pauses. Tasks and callbacks that it had started are not stopped.
"""

import sys

PAUSE_MIN_S = 30
PAUSE_MAX_S = 3600
_LONGER = 4  # times: an application that only joins and fails stays below the joins that a gateway accepts in an hour


class Application:
    """The module `app`, which is imported when it is first run."""

    def __init__(self):
        self._module = None

    def on_event(self, name, values):
        """Pass an event of the node on to the application, if that has `on_event`."""
        listener = getattr(self._module, "on_event", None)
        if listener:
            listener(name, values)

    async def keep_running(self, node):
        """Run the application until it returns, and again after each exception. Returns at once if there is none."""
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
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - any error of the application
                show(error)
                print("the application is started again in", pause, "s; the node goes on")
            await asyncio.sleep(pause)
            pause = min(_LONGER * pause, PAUSE_MAX_S)


def _load():
    # Return the module, or False if there is none
    sys.modules.pop("app", None)  # the rest of an import that failed halfway
    try:
        import app  # pyright: ignore[reportMissingImports] - is on boards only
    except ImportError as error:
        if "'app'" not in str(error):
            raise
        return False
    return app
