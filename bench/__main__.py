"""`python -m bench [NAME ...]`: all of them without an argument."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench import (
    abstention,
    api,
    claims,
    context,
    evaluation,
    extractive,
    fusion,
    fuzz,
    growth,
    kills,
    quality,
    scale,
    serving,
    soak,
    speed,
    start,
)
from bench.report import MissingData

BENCHMARKS: dict[str, Callable[..., None]] = {
    "speed": speed.main,
    "start": start.main,
    "quality": quality.main,
    "extractive": extractive.main,
    "context": context.main,
    "evaluation": evaluation.main,
    "fusion": fusion.main,
    "abstention": abstention.main,
    "claims": claims.main,
    "scale": scale.main,
    "growth": growth.main,
    "serving": serving.main,
    "kills": kills.main,
    "soak": soak.main,
    "fuzz": fuzz.main,
    "api": api.main,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure citekite against its targets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long `soak` takes (default: 2)")
    parser.add_argument("--seconds", type=int, default=fuzz.SECONDS, help="how long `fuzz` tries each of its targets")
    arguments = parser.parse_args()
    names = arguments.names or list(BENCHMARKS)
    options = {"soak": {"minutes": arguments.minutes}, "fuzz": {"seconds": arguments.seconds}}
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))!r}: there are {', '.join(BENCHMARKS)}")
    missing = False
    for name in names:
        try:
            BENCHMARKS[name](**options.get(name, {}))
        except MissingData as error:
            missing = True
            print(f"{name}: {error}", file=sys.stderr)
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
