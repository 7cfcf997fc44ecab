"""The benchmarks' own arithmetic, and what they say where they cannot run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("module", ["bench/report.py"])
def test_examples_hold(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", "doctest", "-v", module], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Test passed." in done.stdout


def test_missing_data_is_named_and_is_a_failure(tmp_path: Path) -> None:
    checkout = tmp_path / "parent" / "checkout"
    shutil.copytree(ROOT / "bench", checkout / "bench")
    command = [sys.executable, "-m", "bench", "speed", "start", "quality", "scale", "growth"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for name in ("milvus_docs/en/faq", "xquad_en"):
        assert f"there is no data set '{name}' in {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_benchmark_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "sped"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "speed, start, quality, extractive" in done.stderr


def test_the_pages_show_the_figures_that_are_filed() -> None:
    program = (
        "from bench.page import PAGES, rendered; print(*(p.name for p in PAGES if rendered(t := p.read_text()) != t))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
