"""A program that tries a target of `fuzz_targets.py` on what a fuzzer makes up: `fuzzing.py TARGET LOG [OPTION ...]`.

The options are those of libFuzzer. What breaks a law is written to the log, a line of JSON for each, and the run goes
on; what ends the process (a crash below Python, a hang) leaves its input where `-artifact_prefix` says. Without
arguments the names of the targets are printed.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

INSTRUMENTED = ["citekite", "bs4", "docx", "pptx", "openpyxl", "httpx2", "zipfile", "yaml"]


def where(error: Exception) -> str:
    """What tells one finding from another: the kind of error, and the innermost line of this project that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    return f"{type(error).__name__} at {Path(frames[-1].filename).name}:{frames[-1].lineno}"


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz_targets import TARGETS
    if not sys.argv[1:]:
        print(*TARGETS, sep="\n")
        return
    target, log = TARGETS[sys.argv[1]](), Path(sys.argv[2])
    known: set[str] = set()

    def attempt(data: bytes) -> None:
        try:
            target.check(data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            if (place := where(error)) not in known:
                known.add(place)
                with log.open("a") as file:
                    file.write(json.dumps({"finding": place, "error": str(error)[:500], "input": data.hex()}) + "\n")

    corpus = Path(log.parent, "corpus")
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], attempt)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
