"""The texts of `make`: where the result is, and how long it takes."""

import ast
import importlib.metadata
import importlib.util
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
ALL, SHORT = "all tests", "all tests that are not long"


def conftest():
    spec = importlib.util.spec_from_file_location("conftest_of_all_tests", ROOT / "tests" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFTEST = conftest()


def config(args, seconds=None, **options):
    cached = {} if seconds is None else {CONFTEST.SECONDS_OF_WHOLE_RUNS: {ALL: seconds}}
    return SimpleNamespace(
        args=args,
        getini=lambda name: ["tests"],
        getoption=options.get,
        cache=SimpleNamespace(get=lambda name, otherwise: cached.get(name, otherwise)),
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
    header = CONFTEST.pytest_report_header
    assert f"about {CONFTEST.USUAL_MIN[ALL]} min" in header(config(["tests"]))
    assert "took 13 min 20 s here" in header(config(["tests"], seconds=800))
    assert f"about {CONFTEST.USUAL_MIN[SHORT]} min" in header(config(["tests"], seconds=800, without_long=True))
    assert header(config(["tests/unit"], seconds=800)) is None
    assert header(config(["tests"], seconds=800, keyword="kms")) is None


def test_how_long_a_whole_run_took_is_kept_for_each_kind_of_it():
    kept = {}
    first, second = config(["tests"]), config(["tests"], without_long=True)
    for run, begun_s_ago in ((first, 800), (second, 300)):
        run.cache = SimpleNamespace(get=lambda name, otherwise: kept.get(name, otherwise), set=kept.__setitem__)
        run.stash = {CONFTEST.BEGUN_AT: time.monotonic() - begun_s_ago}
        CONFTEST.pytest_sessionfinish(SimpleNamespace(config=run), pytest.ExitCode.OK)
    assert "took 13 min 20 s" in CONFTEST.pytest_report_header(first)
    assert "took 5 min 0 s" in CONFTEST.pytest_report_header(second)


def test_make_test_tells_why_tests_are_skipped_and_which_are_slow():
    told = {"--durations=10", "-rsfE"}
    for target in ("test", "test-all", "check-fast"):
        assert told <= words(target)


def test_all_tests_but_the_long_ones_are_run_by_make_test_and_all_by_ci():
    assert "--without-long" in words("test") and "tests/unit" not in words("test")
    assert "--without-long" not in words("test-all") and "tests/unit" not in words("test-all")
    assert "make test-all 2>&1" in (ROOT / ".ci" / "run").read_text()


def words(target):
    """What `make` types to run the tests of a target."""
    commands = subprocess.run(["make", "-n", target], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    (line,) = [line for line in commands.splitlines() if "-m pytest" in line]
    return set(line.split())


def test_what_a_long_test_shows_a_short_one_shows_too():
    """So `make test` fails, whichever requirement is broken; the long tests look at more of its cases."""
    elsewhere = {"home_assistant", "radio_bench", "deb_package"}
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if not elsewhere & set(path.parts)]
    tests = [test for path in files for test in long_and_ids(path)]
    long = {id for is_long, ids in tests if is_long for id in ids}
    short = {id for is_long, ids in tests if not is_long for id in ids}
    assert len(long) > 5 and not long - short


def long_and_ids(path):
    """Of each test of a file, whether all of it is long, and the ids that it names."""
    tree = ast.parse(path.read_text())
    whole = {ast.unparse(each.value) for each in tree.body if isinstance(each, ast.Assign) and is_mark(each)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name.startswith("test_"):
            marks = function.decorator_list
            ids = [each.args for each in marks if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("req")]
            long = {"pytest.mark.long"} & {ast.unparse(each) for each in marks} or any(
                "mark.long" in it for it in whole
            )
            yield bool(long), {argument.value for arguments in ids for argument in arguments}


def is_mark(assignment):
    return ast.unparse(assignment.targets[0]) == "pytestmark"
