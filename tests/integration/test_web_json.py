"""The page's JSON keeps to its own OpenAPI document, whatever is asked; and what programs ask without log-in."""

import asyncio
import json
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, settings

from gateway_agent.core import events
from gateway_agent.observe.health import HealthView
from gateway_agent.web import api
from tests.integration.web_world import Seen, opened, with_password


async def test_the_json_is_as_its_document_says(tmp_path: Path) -> None:
    with_password(tmp_path)
    seen = Seen()
    for number in range(3):
        seen.stream(events.Joined(f"lamp {number}", "home/lights"))
    async with opened(tmp_path, seen) as page, page.browser() as browser:
        await browser.logs_in()
        described = json.loads((await browser.get("/api/openapi.json")).text)
        assert described == json.loads(json.dumps(api.openapi()))
        cookies = browser.cookies
        await asyncio.to_thread(throw, described, page.url, cookies)
        assert [each["number"] for each in json.loads((await browser.get("/api/events?after=1")).text)] == [2, 3]


def throw(described, url, cookies):
    """Send what the document allows and what it does not; raises AssertionError for an answer that it does not have."""
    schema = schemathesis.openapi.from_dict(described)
    schema.config.update(base_url=url)
    for operation in schema.get_all_operations():
        operation = operation.ok()

        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @schemathesis_cases(operation)
        def examine(case):
            case.call_and_validate(cookies=cookies)

        examine()


def schemathesis_cases(operation):
    from hypothesis import given

    return given(case=operation.as_strategy())


async def test_health_needs_no_log_in_and_has_no_names(tmp_path: Path) -> None:
    seen = Seen()
    async with opened(tmp_path, seen) as page, page.browser() as browser:
        for path in ("/health/live", "/health/ready"):
            answer = await browser.get(path)
            assert (answer.status, json.loads(answer.text)) == (200, {"ok": True, "reasons": []})
        seen.health = HealthView((), ("no medium is up: no group key can be broadcast",), 0.0)
        assert (await browser.get("/health/live")).status == 200
        answer = await browser.get("/health/ready")
        assert answer.status == 503 and json.loads(answer.text)["reasons"] and "gw.home" not in answer.text
