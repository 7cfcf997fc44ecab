"""The files for running it: they name settings, commands and files that exist, and pin what they bring in."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from citekite import __version__
from citekite.cli.app import app
from citekite.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
UNIT = (ROOT / "deploy" / "citekite.service").read_text(encoding="utf-8")
FILES = ("Dockerfile", "compose.yaml", "deploy/citekite.service", "docs/deploy.md")


class _Repeated(dict[str, Any]):
    """Keeps every value of a key that a unit file gives several times."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            value = [*self[key], *value]
        super().__setitem__(key, value)


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT)
    return parser


def assert_runs(words: list[str]) -> None:
    """A command line of ours parses: the command is there, and so is every option."""
    command = typer.main.get_command(app)
    context = command.make_context("citekite", list(words), resilient_parsing=False)
    name, *rest = words
    found = command.commands[name]  # type: ignore[attr-defined]
    while hasattr(found, "commands"):
        name, *rest = rest
        found = found.commands[name]
    found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("name", FILES)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    found = {variable.lower() for variable in re.findall(r"\bCITEKITE_([A-Z_]+)\b", text)}
    assert found
    assert found <= set(Settings.model_fields)


def test_the_values_that_the_image_sets_are_settings_that_can_be_used() -> None:
    values = dict(re.findall(r"CITEKITE_([A-Z_]+)=(\S+)", DOCKERFILE))
    settings = Settings.model_validate({name.lower(): value for name, value in values.items()})
    assert (settings.host, settings.port) == ("0.0.0.0", 8080)
    assert settings.uri.startswith("/data/")
    assert settings.data_dir is not None
    assert settings.data_dir.startswith("/data/")


def test_the_image_runs_the_server_as_a_user_of_its_own() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert users == ["citekite"]
    assert "useradd --system --uid 10001" in DOCKERFILE
    entry = json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[0])
    command = json.loads(re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[0])
    assert entry == ["citekite"]
    assert_runs(command)


def test_the_health_check_of_the_image_is_python_that_asks_a_path_which_is_there() -> None:
    check = json.loads(re.findall(r"HEALTHCHECK .*?CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)[0])
    assert check[:2] == ["python", "-c"]
    compile(check[2], "<health check>", "exec")
    assert "http://127.0.0.1:8080/healthz" in check[2]


def test_the_image_copies_files_that_are_there_and_an_extra_that_exists() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in words.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra in re.findall(r"'\.\[(\w+)\]'", DOCKERFILE):
        assert extra in extras


def test_every_service_is_pinned_checked_and_waits_for_what_it_needs() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"citekite", "milvus", "etcd", "minio"}
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d", tag), name
        assert service["healthcheck"]["test"][0] == "CMD", name
        for other, wait in service.get("depends_on", {}).items():
            assert other in services
            assert wait == {"condition": "service_healthy"}
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in COMPOSE["volumes"]
    assert services["citekite"]["image"] == f"citekite:{__version__}"


def test_only_citekite_can_be_reached_and_only_from_its_machine() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert ports == {"citekite": ["127.0.0.1:8080:8080"]}
    citekite = COMPOSE["services"]["citekite"]
    assert citekite["environment"]["CITEKITE_URI"] == "http://milvus:19530"
    assert (citekite["read_only"], citekite["cap_drop"]) == (True, ["ALL"])


def test_milvus_and_minio_share_their_secret() -> None:
    milvus, minio = (COMPOSE["services"][name]["environment"] for name in ("milvus", "minio"))
    assert milvus["MINIO_ACCESS_KEY_ID"] == minio["MINIO_ROOT_USER"]
    assert milvus["MINIO_SECRET_ACCESS_KEY"] == minio["MINIO_ROOT_PASSWORD"]


def test_the_unit_runs_a_command_that_exists_in_a_folder_of_its_own() -> None:
    service = unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/citekite/bin/citekite"
    assert_runs(words)
    assert service["User"] == "citekite"
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    for assignment in UNIT.split("\nEnvironment=")[1:]:
        name, _, value = assignment.partition("\n")[0].partition("=")
        if name.startswith("CITEKITE_"):
            Settings.model_validate({name.removeprefix("CITEKITE_").lower(): value})


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "docs/deploy.md"])
def test_commands_in_containers_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for line in re.findall(r"docker (?:compose )?(?:run|exec) .*?\scitekite ([a-z][^#`\n]*)", text):
        assert_runs(shlex.split(line.removeprefix("citekite ")))
