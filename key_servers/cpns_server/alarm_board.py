"""Where the processes of one CPNS Server show each other their alarms, so that a person sees all of them at each."""

from collections.abc import Sequence

from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.values import Moment, ServerAlarm


class AlarmBoard:
    """The board of a process that is alone: there is nothing to show, and nothing to see."""

    def look(self, alarms: ServerAlarms, now: Moment) -> None:
        """Show the alarms of this process, and end those that were dismissed at another one."""

    def elsewhere(self) -> Sequence[ServerAlarm]:
        """Return the alarms of the other living processes, each by itself; none while they cannot be read."""
        return ()

    def dismiss(self, kind: str, gateway_id: str, sg_id: str) -> bool:
        """End the alarms of other processes as `ServerAlarms.dismiss` does. Raises StoreFailed."""
        return False
