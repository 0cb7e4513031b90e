"""The alert rules and the dashboard that docs/monitoring.md offers, checked by Prometheus' own tool."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

PROJECT = Path(__file__).resolve().parents[2]
PAGE, FOLDER = PROJECT / "docs" / "monitoring.md", PROJECT / "docs" / "monitoring"
RULES, DASHBOARD = FOLDER / "keycast.rules.yml", FOLDER / "keycast-dashboard.json"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian: sudo apt install prometheus)")


def promtool(*words):
    done = subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
def test_the_alert_rules_are_rules():
    assert "3 rules found" in promtool("check", "rules", RULES)


@needs_promtool
def test_each_alert_begins_and_ends_when_it_should():
    promtool("test", "rules", Path(__file__).with_name("monitoring_rules.yml"))


@needs_promtool
def test_prometheus_accepts_the_configuration_of_the_page(tmp_path):
    (block,) = re.findall(r"```text\n(scrape_configs:.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(block)
    shutil.copy(RULES, tmp_path)
    assert "SUCCESS" in promtool("check", "config", tmp_path / "prometheus.yml")


def expressions():
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [each["expr"] for each in board["annotations"]["list"]]


@needs_promtool
def test_each_expression_of_the_dashboard_is_one(tmp_path):
    told = [each.replace("$__rate_interval", "5m").replace("$gateway", ".*") for each in expressions()]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(told)]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", path)


def metrics_in(text):
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bkeycast_\w+", text)}


def test_rules_and_dashboard_use_metrics_that_the_page_explains():
    explained = metrics_in(PAGE.read_text())
    used = metrics_in("\n".join(expressions())) | metrics_in(re.sub(r"#.*", "", RULES.read_text()))
    assert used <= explained
    assert len(used) >= 8


def test_panels_of_the_dashboard_do_not_lie_on_each_other():
    board = json.loads(DASHBOARD.read_text())
    seen = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & seen and max(x for x, _ in cells) < 24, panel["title"]
        seen |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
