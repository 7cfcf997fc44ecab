"""A process that is forked off the template is as one that an interpreter was started for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forked import Forked, environment, template

ENDS = {
    "return": "",
    "status": "raise SystemExit(7)",
    "words": "sys.exit('no more words')",
    "fault": "raise ValueError('a fault')",
    "interrupt": "signal.raise_signal(signal.SIGINT)",
    "thread": "threading.Timer(0.1, lambda: print('later')).start()",
}
PROGRAM = """\
import atexit, json, os, signal, sys, threading
from pathlib import Path
atexit.register(print, "at exit")
said = sys.stdin.read()
print(json.dumps([said, os.getppid(), sys.argv, sys.path[0], str(Path.cwd()), os.environ["WHO"], __spec__.name]))
print([(stream.encoding, stream.errors, stream.line_buffering) for stream in (sys.stdin, sys.stdout, sys.stderr)])
print(sorted(os.listdir("/proc/self/fd")), file=sys.stderr)
"""


@pytest.mark.parametrize("end", ENDS)
def test_a_program_sees_and_leaves_the_same(tmp_path: Path, end: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM + ENDS[end])
    seen = []
    for make in (subprocess.Popen, Forked):
        with make(
            [sys.executable, "-m", "program", "a", "b"],
            cwd=tmp_path,
            env=environment(WHO="owl"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            out, errors = process.communicate("hoot\n")
        seen.append((process.returncode, out, errors))
    own, forked = seen

    assert forked[:2] == own[:2]
    # Above the module, a traceback shows what ran it.
    assert forked[2].splitlines()[0] == own[2].splitlines()[0]
    assert forked[2].splitlines()[-1:] == own[2].splitlines()[-1:]
    assert json.loads(out.splitlines()[0])[1] == os.getpid()


def test_a_forked_program_is_a_process_to_be_killed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import os\nprint(os.getpid(), flush=True)\ninput()")
    words = [sys.executable, "-m", "program"]
    with Forked(
        words, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert int(one.stdout.readline()) == one.pid != template()._process.pid
        assert one.poll() is None
        one.kill()
        assert one.wait(10) == -signal.SIGKILL


def test_another_interpreter_is_started_for_those_who_ask_for_one(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys\nprint('pymilvus' in sys.modules)")
    said = []
    for variables in ({}, {"PYTHONPATH": str(tmp_path)}):
        with Forked(
            [sys.executable, "-m", "program"],
            cwd=tmp_path,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            said.append(process.communicate()[0])
    assert said == ["True\n", "False\n"]
