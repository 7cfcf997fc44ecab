"""The OpenAPI document is true: what is made up from it gets no 5xx, and no status or type that it does not name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from citekite import errors
from citekite.settings import Settings
from served import serving

EXAMPLES = 8


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    # Rate limits have tests of their own; with this one, made-up addresses are refused and not looked up.
    values = Settings(uri=str(folder / "docs.db"), embedder="static", requests_per_minute=100_000)
    with serving(values) as address:
        job = httpx2.post(f"{address}/api/v1/documents/sample", timeout=30).json()
        with httpx2.stream("GET", f"{address}/api/v1/jobs/{job['id']}/events", timeout=30) as stream:
            assert "Finished" in "".join(stream.iter_text())
        yield address


@pytest.fixture(scope="module")
def document(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{address}/api/v1/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation with its name; other protocols than ours have their own forms."""
    for path, methods in document["paths"].items():
        if not path.startswith("/v1/"):
            yield from ((f"{method} {path}", operation) for method, operation in methods.items())


def test_every_operation_has_a_summary_and_an_example_of_its_reply(document: dict[str, Any]) -> None:
    for where, operation in operations(document):
        assert operation["summary"].endswith("."), where
        replies = [reply for status, reply in operation["responses"].items() if status in ("200", "201", "202")]
        assert replies or "204" in operation["responses"], where
        assert all("example" in content for reply in replies for content in reply["content"].values()), where


def test_every_body_of_a_request_has_an_example(document: dict[str, Any]) -> None:
    bodies = [(where, one["requestBody"]["content"]) for where, one in operations(document) if "requestBody" in one]
    schemas = document["components"]["schemas"]
    for where, contents in bodies:
        for content in contents.values():
            text = json.dumps(content["schema"])
            names = re.findall(r"#/components/schemas/(\w+)", text)
            assert "example" in content or any("examples" in schemas[name] for name in names), where
    assert len(bodies) >= 9


def test_every_problem_has_an_example_with_its_status(document: dict[str, Any]) -> None:
    for where, operation in operations(document):
        for status, reply in operation["responses"].items():
            if status.isdigit() and status >= "400":
                (content,) = reply["content"].values()
                assert set(reply["content"]) == {"application/problem+json"}, where
                examples = [one["value"] for one in content["examples"].values()]
                assert {one["status"] for one in examples} == {int(status)}, where
                assert all(hasattr(errors, one["title"]) for one in examples), where


def test_made_up_requests_meet_no_error_of_the_server_and_no_undocumented_reply(address: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json")
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Case) -> None:
            assume(not _names_a_path(case.body))
            # The paths of other protocols have their own forms of errors.
            ours = [status_code_conformance, content_type_conformance] if case.path.startswith("/api/v1/") else []
            case.call_and_validate(checks=[not_a_server_error, *ours], timeout=30)

        check()
        tried.add(operation.label)
    assert len(tried) > 20


def _names_a_path(body: object) -> bool:
    """Whether a made-up job would sync something of this machine, such as all of it."""
    sources = body.get("sources") if isinstance(body, dict) else None
    found = [one for one in sources if isinstance(one, str)] if isinstance(sources, list) else []
    return any("\0" not in one and os.path.exists(one.encode(errors="ignore")) for one in found)  # noqa: PTH110 - a path may be anything
