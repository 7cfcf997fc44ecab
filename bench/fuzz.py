"""Fuzzing: every target of `tests/fuzz_targets.py` on inputs that a fuzzer makes up by the code that they reach.

Each target has a process of its own, so that one that crashes or hangs is counted, and started again. What was tried of
interest stays in build/fuzz, where the next run goes on from it; so do the inputs of what was found.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.report import ROOT, MissingData, Result, save, table

SECONDS = 60
HANG_SECONDS = 60
LIMITS = (f"-timeout={HANG_SECONDS}", "-rss_limit_mb=3000", "-max_len=65536", "-reload=0", "-print_final_stats=1")
PROGRAM = ROOT / "tests" / "fuzzing.py"
KEPT = ROOT / "build" / "fuzz"
_TRIED = re.compile(r"stat::number_of_executed_units: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a target: how many inputs were tried, how many ended or stopped its process, what broke a law."""

    target: str
    inputs: int
    crashes: int
    hangs: int
    findings: tuple[str, ...]

    @property
    def faults(self) -> int:
        return self.crashes + self.hangs + len(self.findings)


def main(seconds: int = SECONDS) -> None:
    """Try every target for so long; print and file what was found."""
    if not PROGRAM.is_file() or find_spec("atheris") is None:
        raise MissingData("the fuzzer is not there: `pip install -e '.[dev,fuzz]'` in a checkout with its tests")
    outcomes = []
    for name in run().stdout.splitlines():
        outcomes.append(tried(name, seconds))
        print(f"{name}: {outcomes[-1].inputs:,} inputs, {outcomes[-1].faults} faults", flush=True)
        for finding in outcomes[-1].findings:
            print(f"  {finding}", flush=True)
    results = [Result(outcome.target, outcome.inputs, "inputs") for outcome in outcomes]
    faults = Result("crashes, hangs and broken laws", sum(outcome.faults for outcome in outcomes), at_most=0)
    print(table(f"Inputs made up in {seconds} s for each target", [*results, faults]), flush=True)
    save("fuzz", {"seconds": seconds, "targets": [asdict(outcome) for outcome in outcomes]})


def tried(name: str, seconds: int) -> Outcome:
    """A target tried for so many seconds, in a new process after each that ended before."""
    folder = KEPT / re.sub(r"\W+", "-", name)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "findings.jsonl"
    log.unlink(missing_ok=True)
    before = set(folder.iterdir())
    inputs, ends = 0, time.monotonic() + seconds
    while (left := int(ends - time.monotonic())) > 0:
        done = run(name, str(log), f"-max_total_time={left}", f"-artifact_prefix={folder}/", *LIMITS)
        found = _TRIED.findall(done.stderr)
        if not found:
            raise RuntimeError(f"the fuzzer did not run:\n{done.stderr[-2000:]}")
        inputs += int(found[-1])
    left_behind = [path.name for path in set(folder.iterdir()) - before]
    return Outcome(
        target=name,
        inputs=inputs,
        crashes=sum(name.startswith(("crash-", "oom-", "leak-")) for name in left_behind),
        hangs=sum(name.startswith("timeout-") for name in left_behind),
        findings=findings(log),
    )


def findings(log: Path) -> tuple[str, ...]:
    """What broke a law, each once, as the log has it."""
    if not log.is_file():
        return ()
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return tuple(sorted({f"{line['finding']}: {line['error'][:120]}" for line in lines}))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program of the fuzzer, which loads citekite from this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(
        words, env=environment, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
