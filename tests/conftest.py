"""What every run of the tests has in common: which files begin first, that modules are compiled, that Ctrl-C works."""

from __future__ import annotations

import os
import signal
import sys

import hypothesis
import pytest

# The files that take longest, the longest first: begun last, one of them would leave all other workers idle.
LONGEST = (
    "test_soak.py",
    "test_store_contract.py",
    "test_ray_engine.py",
    "test_kill.py",
    "test_page.py",
    "test_quality.py",
    "test_access_lists.py",
    "test_knowledge_base.py",
    "test_library_page.py",
    "test_cli.py",
    "test_mcp.py",
    "test_contextual.py",
    "test_docs.py",
    "test_access_writing.py",
    "test_beside_a_server.py",
    "test_extract.py",
    "test_evaluate.py",
    "test_api_schema.py",
    "test_split.py",
    "test_documents_api.py",
    "test_deep.py",
    "test_openai_api.py",
)


def pytest_configure(config: pytest.Config) -> None:
    # The tests start some dozens of interpreters, and each would compile every module anew.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # A shell that starts the suite in the background leaves Ctrl-C ignored, also in the processes started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # On a machine that is busy any example may take long.
    hypothesis.settings.register_profile("busy", deadline=None)
    hypothesis.settings.load_profile("busy")
    # With `--dist loadfile` xdist would begin with the files that have the most tests, which are the fast ones.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
