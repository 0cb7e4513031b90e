"""What a command imports before it does its work, counted in modules: each one delays whoever typed the command."""

import json
import subprocess
import sys
from collections.abc import Iterable

from keycast.program import WORDS
from tests.waiting import PATIENCE_S

OWN_EXTRA = {"seal", "mikey"}  # they are nothing without the packages of the extra `seal`
ROOMS = ("cpns", "suit", "gateway_agent", "key_servers", "message_plane", "http_door", "device_agent", "mikey_sakke")


def modules_after(code: str) -> list[str]:
    """The names of all modules that are there after `code` in a process of its own, in the order of their import."""
    program = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def below(found: Iterable[str], *names: str) -> list[str]:
    """Those of the modules that are one of `names` or in one of them."""
    return [each for each in found if any(f"{each}.".startswith(f"{name}.") for name in names)]


def test_the_words_of_commands_need_no_configuration_store_and_server() -> None:
    """Help and completion import nothing of these. What the work of a command needs, the work imports."""
    words = [word for word in WORDS if word not in OWN_EXTRA]
    found = modules_after(f"from keycast.program import program\nfor word in {words}: program([word])")
    assert not below(found, "pydantic", "aiocoap", "aiohttp", "cryptography", "serial")
    assert not below(found, "key_servers", "message_plane", "device_agent", "keycast.virtual_board")
    assert below(found, "gateway_agent") == [
        "gateway_agent",
        "gateway_agent.observe",
        "gateway_agent.observe.log_lines",
        "gateway_agent.errors",
    ]


def test_reading_a_configuration_imports_no_part_of_a_gateway_that_runs() -> None:
    """Each command that speaks with a gateway reads its configuration first."""
    found = modules_after("import gateway_agent.config.load")
    assert not below(found, "sqlite3", "aiocoap", "aiohttp", "cryptography", "zeroconf")
    assert not below(found, "suit", "key_servers", "gateway_agent.store", "gateway_agent.control")
    assert below(found, "gateway_agent.observe") == ["gateway_agent.observe", "gateway_agent.observe.onlookers"]
    assert len(below(found, *ROOMS)) < 60
