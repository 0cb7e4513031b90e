"""`pytest --shards` runs the tests on all processors: four times as many processes share the test files, as the tests
of systems wait for most of their time (pytest-xdist); `--per-processor 2` is for tests that do not.

Each process has a network of its own (a network namespace with a loopback interface and one Ethernet card), so that
tests which bind well-known ports, broadcast or list interfaces do not disturb each other. Its temporary files are in
memory, so that no test waits for a disk, and are gone when it ends: a test that runs alone leaves them if it fails.
Where the kernel makes no namespaces the tests run one after the other, and the header of the run says why.

The files that took longest in the run before (pytest's cache has their times) are begun first.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from keycast.micropython_vm import compile
from tools import portable_images

PORTABLE = Path(__file__).with_name("portable")
EACH_TEST_ALONE = ("tests/portable/test_on_vm.py", "tests/unit/test_board_power_cuts.py")  # each starts a VM of its own
TOGETHER = ("tests/arch",)  # all files of the folder: each reads all sources
SECONDS_OF_TESTS = "keycast/seconds_of_tests"  # in pytest's cache; without those that are shorter than SHORT_S
SHORT_S = 0.05
WAITS_S = 10.0  # a unit that takes as long waits for boards, servers or pages
PROCESSORS = len(os.sched_getaffinity(0))
LEFT_OUT = "left_out"  # in what a shard tells at its end: how many tests it found and does not run
POWER_CUTS = "tests/unit/test_board_power_cuts.py::test_after_each_cut_the_old_agent_or_the_new_one_runs"
# What is expected where nothing ran yet: of the longest units, and of each test of the others by its folder.
LONG_S = {
    "tests/system/test_page_of_a_house.py": 60,
    **{f"{POWER_CUTS}[each-file-{end}]": 25 for end in ("good", "bad")},
    **{f"{POWER_CUTS}[each-staged-{end}]": 12 for end in ("good", "bad")},
    "tests/integration/test_page_in_chromium.py": 60,
    "tests/unit/test_bench_mqtt.py": 40,
    "tests/unit/test_keycast_loading.py": 12,
    "tests/system/test_system_network.py": 75,
    "tests/system/test_system_network_loss.py": 75,
    "tests/system/test_system_updates.py": 150,
    "tests/system/test_system_val_update.py": 90,
    "tests/system/test_system_desk.py": 75,
    "tests/system/test_serial_board_update.py": 45,
    "tests/system/test_board_flash.py": 80,
    "tests/system/test_setup_terminal.py": 25,
    "tests/system/test_passphrases_at_a_terminal.py": 12,
    "tests/integration/test_server_shards.py": 60,
    "tests/integration/test_server_postgres_away.py": 40,
    "tests/integration/test_server_postgres_copies.py": 20,
    "tests/integration/test_server_processes.py": 20,
    "tests/integration/test_end_to_end_hostile.py": 45,
    "tests/system/test_system_end_to_end_memory.py": 20,
    "tests/integration/test_end_to_end_losses.py": 25,
    "tests/integration/test_server_rest.py": 25,
    "tests/system/test_system_end_to_end_kill.py": 35,
    "tests/system/test_serial_board_end_to_end.py": 30,
    "tests/integration/test_end_to_end_flows.py": 20,
    "tests/integration/test_end_to_end_chaos.py": 20,
    "tests/integration/test_end_to_end_operators.py": 20,
    "tests/system/test_system_demo.py": 45,
    "tests/integration/test_broker_mosquitto.py": 15,
    "tests/integration/test_gateway_check_mqtt.py": 40,
    "tests/integration/test_uplink_mqtt.py": 25,
    "tests/integration/test_home_assistant_mqtt.py": 25,
    "tests/integration/test_server_claim.py": 15,
    "tests/system/test_serial_board_home.py": 35,
    "tests/system/test_board_start.py": 60,
    "tests/system/test_page_for_operators.py": 40,
    "tests/system/test_pages_for_users.py": 120,
    "tests/system/test_installed_wheel.py": 80,
    "tests/system/test_system_val_client.py": 60,
    "tests/system/test_system_val_whole_way.py": 60,
    "tests/system/test_system_restore.py": 50,
    "tests/system/test_system_kill.py": 35,
    "tests/system/test_system_own_server.py": 30,
    "tests/system/test_system_exclusion.py": 25,
    "tests/system/test_system_full_board.py": 40,
    "tests/unit/test_board_provisioning.py": 40,
    "tests/system/test_system_ble.py": 30,
    "tests/system/test_system_ble_hostile.py": 30,
    "tests/system/test_system_nat.py": 25,
    "tests/system/test_system_attacks.py": 25,
    "tests/system/test_system_command_faults.py": 20,
    "tests/portable/test_on_vm.py::test_on_vm[test_mikey_vectors]": 20,
    "tests/portable/test_on_vm.py::test_on_vm[test_device_val_client]": 15,
    "tests/portable/test_on_vm.py::test_on_vm[test_device_val_cache]": 15,
    "tests/integration/test_end_to_end_mqtt.py": 20,
    "tests/integration/test_uplink_kills.py": 45,
    "tests/integration/test_uplink_losses.py": 45,
    "tests/integration/test_uplink_promotion.py": 40,
    "tests/integration/test_seal_over_https.py": 15,
    "tests/integration/test_seal_commands.py": 15,
    "tests/integration/test_server_crash.py": 15,
    "tests/unit/test_house_shards.py": 15,
    "tests/arch": 15,
}
EACH_TEST_S = {"system": 1.5, "property": 1.5, "portable": 0.5, "integration": 0.3}

# Names of network namespaces (`ip netns`) are kept in /run, so each process has a /run of its own as well.
MAKE_NETWORK = """
export TMPDIR="$1"
shift
mount -t tmpfs tmpfs "$TMPDIR"
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add eth0 type veth peer name cable
ip link set cable up
ip link set eth0 up
ip address add 10.78.0.2/24 broadcast + dev eth0
exec "$@"
"""


def in_own_network(folder, *command):
    """The words that start `command` in a network of its own, where an ordinary user is root, too. Its temporary files
    are in memory, at the path of an empty folder."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--net", "sh", "-ec", MAKE_NETWORK, "shard", folder, *command]


def why_no_networks():
    """Why no process can have a network of its own here, "" if it can."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            tried = subprocess.run(in_own_network(folder, "true"), capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no `unshare` command (package util-linux)"
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"exit code {tried.returncode}"


def unit(nodeid):
    """What one process runs as a whole: a file, a single test where nothing is shared by the tests of a file, or a
    folder whose files share what takes long."""
    file = file_of(nodeid)
    folder = file.rpartition("/")[0]
    return nodeid if file in EACH_TEST_ALONE else folder if folder in TOGETHER else file


def file_of(nodeid):
    return nodeid.partition("::")[0]


def plugin(config):
    """What this process of the run needs: a shard, the process that starts the shards, or one that does all itself."""
    if hasattr(config, "workerinput"):
        config.option.basetemp = Path(tempfile.gettempdir(), "pytest")
        return LongestFirst()
    why_not = why_no_networks()
    return OneAfterTheOther(why_not) if why_not else Shards(config)


class OneAfterTheOther:
    """Says in the header why there are no shards."""

    def __init__(self, why_not):
        self._why_not = why_not

    def pytest_report_header(self):
        return f"one test after the other, as this machine makes no networks for several processes: {self._why_not}"


class LongestFirst:
    """The order of the tests in a shard. All shards must find the same."""

    def __init__(self):
        self._left_out = 0

    def pytest_deselected(self, items):
        self._left_out += len(items)

    def pytest_sessionfinish(self, session):
        session.config.workeroutput[LEFT_OUT] = self._left_out

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config, items):
        seconds = seconds_of_units(config, [item.nodeid for item in items])
        items.sort(key=lambda item: -seconds[unit(item.nodeid)])


class Shards:
    """Starts the shards, hands out the files, and tells each file that is done and each test that failed."""

    def __init__(self, config):
        self._config = config
        self._number = config.getoption("--per-processor") * PROCESSORS
        self._seconds = Counter()  # of each test
        self._left = Counter()  # tests of each unit that have not ended yet
        self._units = 0
        self._left_out = 0  # tests, each known to all shards
        self._folder = tempfile.TemporaryDirectory(prefix="shards-")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # all shards and each command of a test would compile anew
        config.option.dist = "loadscope"
        config.option.loadscopereorder = False
        config.option.tx = [
            f"{self._number}*popen//python={shlex.join(in_own_network(self._folder.name, sys.executable))}"
        ]

    def pytest_report_header(self):
        return f"{self._number} processes, each in a network of its own"

    def pytest_xdist_make_scheduler(self, config, log):
        """Compile once what each shard would find missing, while the shards collect their tests."""
        with suppress(compile.CompileError):  # a test tells it
            portable_images.compile_portable()
            compile.compile_board()
            compile.compile_val_client_board()
            for source in PORTABLE.glob("test_*.py"):
                portable_images.compile_test(source)
        return Scheduling(config, log)

    def pytest_xdist_node_collection_finished(self, ids):
        if not self._units:  # the first shard that knows, as all shards find the same
            self._left = Counter(map(unit, ids))
            self._units = len(self._left)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, config):
        """Leave the letter of each test out."""
        category, letter, word = yield
        return category, "" if config.option.verbose <= 0 else letter, word

    def pytest_runtest_logreport(self, report):
        self._seconds[report.nodeid] += report.duration
        if report.failed:
            self._print(f"FAILED {report.nodeid}")

    def pytest_runtest_logfinish(self, nodeid):
        ended = unit(nodeid)
        self._left[ended] -= 1
        if self._left[ended] == 0:
            del self._left[ended]
            self._print(f"[{self._units - len(self._left)} of {self._units}] {ended}")

    def pytest_testnodedown(self, node):
        self._left_out = getattr(node, "workeroutput", {}).get(LEFT_OUT, self._left_out)

    def pytest_terminal_summary(self, terminalreporter):
        if self._left_out:
            terminalreporter.write_line(f"{self._left_out} tests were left out: `make test-all` has all")

    def _print(self, line):
        self._config.pluginmanager.getplugin("terminalreporter").write_line(line)

    def pytest_sessionfinish(self, session):
        if session.config.pluginmanager.has_plugin("cacheprovider"):
            seconds = {nodeid: round(s, 2) for nodeid, s in self._seconds.items() if s >= SHORT_S}
            session.config.cache.set(SECONDS_OF_TESTS, seconds_of_tests(session.config) | seconds)

    def pytest_unconfigure(self):
        self._folder.cleanup()


class Scheduling(LoadScopeScheduling):
    """Hands the next unit to the shard that has least to do: the longest, as long as there is a shard for each
    processor that has no long one, and otherwise the longest of the others. Long ones wait for most of their time."""

    def schedule(self):
        if self.collection is None:  # the first time
            seconds = seconds_of_units(self.config, next(iter(self.registered_collections.values())))
            self._long = {name for name, s in seconds.items() if s >= WAITS_S}
        super().schedule()

    def _split_scope(self, nodeid):
        return unit(nodeid)

    def _assign_work_unit(self, node):
        others = [each for each in self.nodes if each is not node]
        if sum(map(self._has_long, others)) >= len(self.nodes) - PROCESSORS:
            name = next((name for name in self.workqueue if name not in self._long), None)
            if name is not None:
                self.workqueue.move_to_end(name, last=False)
        super()._assign_work_unit(node)

    def _has_long(self, node):
        work = self.assigned_work[node]
        return any(False in work[name].values() for name in self._long & work.keys())


def seconds_of_units(config, nodeids):
    """How long each unit took when it last ran here, or what is expected of it."""
    known, expected, taken = seconds_of_tests(config), Counter(), Counter()
    for nodeid in nodeids:
        expected[unit(nodeid)] += EACH_TEST_S.get(Path(file_of(nodeid)).parent.name, 0.1)
        taken[unit(nodeid)] += known.get(nodeid, 0)
    return {**expected, **LONG_S, **{name: s for name, s in taken.items() if s}}


def seconds_of_tests(config):
    """How long tests took when they last ran here; {} if nothing is known."""
    return config.cache.get(SECONDS_OF_TESTS, {}) if config.pluginmanager.has_plugin("cacheprovider") else {}
