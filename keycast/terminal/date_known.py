"""The check before a command that makes something which is valid from today on, for years.

A machine without a battery may start in 1970. A certificate that is made then has run out when the clock is right
again, and of some there can be one only.
"""

import time

from gateway_agent.machine_watch import NO_DATE_BEFORE
from keycast.terminal.dates import local
from keycast.terminal.options import refuse


def require_date() -> None:
    """Refuse the command if the clock of this computer has lost the date."""
    if time.time() < NO_DATE_BEFORE:
        refuse(
            f"the clock of this computer says {local(time.time())}, and what is made now would be valid from then on. "
            "Connect it to the internet, or set it: timedatectl set-time; then try again",
            "not-allowed",
        )
