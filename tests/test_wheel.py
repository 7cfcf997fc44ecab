"""The wheel has everything that the package needs, and the page opens from an installation of it alone."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forked import environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "citekite"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and nothing else; what it depends on is that of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def address(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of the installation, started by its own command in an empty folder."""
    command = [sys.executable, str(installed / "bin" / "citekite"), "serve", "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=tmp_path_factory.mktemp("served"),
        env=environment(PYTHONPATH=str(installed)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://[\d.:]+", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:
        content: bytes = response.read()
    return content


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Also those that are no Python: the page with its licences, the sample library, the marker of the types."""
    ours = {
        path.relative_to(ROOT / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
    assert {name for name in names if name.startswith("citekite/")} == ours
    assert {"citekite/py.typed", "citekite/serve/ui/index.html"} <= names


def test_the_installed_command_runs_the_installed_package(installed: Path, tmp_path: Path) -> None:
    program = "import citekite; print(citekite.__file__)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(run.stdout.strip()) == installed / "citekite" / "__init__.py"


def test_the_page_opens_from_the_installation_with_all_that_it_names(address: str, installed: Path) -> None:
    page = read(address).decode()
    assert page == (installed / "citekite" / "serve" / "ui" / "index.html").read_text(encoding="utf-8")
    named = re.findall(r'(?:src|href)="/?([^"#:]+)"', page)
    assert named
    for path in named:
        assert read(f"{address}/{path}"), path


def test_every_file_of_the_page_is_served_as_it_was_installed(address: str, installed: Path) -> None:
    folder = installed / "citekite" / "serve" / "ui"
    files = [path for path in folder.rglob("*") if path.suffix in (".js", ".css", ".svg", ".html")]
    assert len(files) > 10
    for path in files:
        assert read(f"{address}/ui/{path.relative_to(folder).as_posix()}") == path.read_bytes()
