"""The texts of `make`: where the result is, and how long it takes."""

import importlib.metadata
import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]


def conftest():
    spec = importlib.util.spec_from_file_location("conftest_of_all_tests", ROOT / "tests" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config(args, seconds=None, **options):
    cached = {} if seconds is None else {conftest().SECONDS_OF_A_WHOLE_RUN: seconds}
    return SimpleNamespace(
        args=args,
        getini=lambda name: ["tests"],
        getoption=options.get,
        cache=SimpleNamespace(get=cached.get),
        pluginmanager=SimpleNamespace(has_plugin=lambda name: name == "cacheprovider"),
    )


def test_the_packages_here_are_those_that_a_newcomer_gets():
    """What an earlier requirements.lock named and nobody removed would hide that it is still needed."""
    named = (ROOT / "requirements.lock").read_text().split("\n")[1:-1]
    there = {f"{each.name}=={each.version}" for each in importlib.metadata.distributions()}
    assert {each.lower() for each in there if not each.startswith(("pip==", "keycast=="))} == {
        each.lower() for each in named
    }, "`touch requirements.lock; make vm` brings .venv in line with it"


def test_who_runs_all_tests_is_told_before_how_long_that_takes():
    header = conftest().pytest_report_header
    assert f"about {conftest().USUAL_MIN} min" in header(config(["tests"]))
    assert "took 13 min 20 s here" in header(config(["tests"], seconds=800))
    assert header(config(["tests/unit"], seconds=800)) is None
    assert header(config(["tests"], seconds=800, keyword="kms")) is None


def test_make_test_tells_why_tests_are_skipped_and_which_are_slow():
    told = {"--shards", "--durations=10", "-rsfE"}
    for target in ("test", "check-fast"):
        commands = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        (line,) = [line for line in commands.splitlines() if "-m pytest" in line]
        assert told <= set(line.split())
