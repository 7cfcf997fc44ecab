"""Several configurations on one question set, side by side, each against the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from citekite.errors import SettingsError
from citekite.evaluate.dataset import Dataset
from citekite.evaluate.indexes import Indexes
from citekite.evaluate.run import METRICS, Report, evaluate, scores_of
from citekite.evaluate.statistics import Difference, compare, holm
from citekite.reports import Progress
from citekite.settings import Settings, load_settings

BASE = "base"
# A comma parts two settings only where a name and `=` follow: a separator may hold a comma itself.
_COMMA = re.compile(r",(?=\s*[\w-]+\s*=)")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A named way of indexing, searching and answering."""

    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class Comparison:
    """The reports of several configurations, keyed by name, the base first.

    `differences` holds each of the others against the base, by configuration and metric; the p-values of one metric
    are corrected over the configurations.
    """

    dataset: str
    reports: Mapping[str, Report]
    differences: Mapping[str, Mapping[str, Difference]]


def configurations(changes: Sequence[str], arguments: Mapping[str, Any]) -> list[Configuration]:
    """The settings in force as `base`, and each of the changes (`mode=dense,k=8`) to them.

    `arguments` are settings given by name, as for `load_settings`. Raises `SettingsError` for a change that is none.
    """
    found = [Configuration(BASE, load_settings(arguments).settings)]
    for text in changes:
        if any(configuration.name == text for configuration in found):
            raise SettingsError(f"the configuration {text!r} is given twice")
        settings = load_settings({**arguments, **parse_changes(text)}).settings
        found.append(Configuration(text, settings))
    return found


def parse_changes(text: str) -> dict[str, str]:
    """The settings in `name=value,name=value`; a hyphen in a name counts as an underscore.

    >>> parse_changes("splitter=separator,separator=, ,chunk-characters=800")
    {'splitter': 'separator', 'separator': ', ', 'chunk_characters': '800'}
    """
    changes = {}
    for part in _COMMA.split(text):
        name, mark, value = part.partition("=")
        if not mark or not name.strip() or not value:
            raise SettingsError(f"{part!r} in --with {text!r} changes nothing: write name=value, such as mode=dense")
        changes[name.strip().replace("-", "_")] = value
    return changes


def compare_configurations(
    configurations: Sequence[Configuration],
    dataset: Dataset,
    indexes: Indexes,
    *,
    answers: bool = True,
    parallel: int = 1,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Evaluate each configuration on the same questions, and hold each against the first."""
    reports = {}
    for configuration in configurations:
        with indexes.open(configuration.settings) as kb:
            found = evaluate(
                kb,
                dataset,
                answers=answers,
                parallel=parallel,
                report=_named(configuration.name, report),
            )
        reports[configuration.name] = found
    base = scores_of(reports[configurations[0].name].rows)
    found_differences = {
        configuration.name: dict(zip(METRICS, compare(base, scores_of(reports[configuration.name].rows)), strict=True))
        for configuration in configurations[1:]
    }
    return Comparison(dataset.name, reports, _corrected(found_differences))


def _named(name: str, report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Report progress under the name of the configuration instead of the stage's."""
    return lambda progress: report(replace(progress, stage=name))


def _corrected(found: Mapping[str, Mapping[str, Difference | None]]) -> dict[str, dict[str, Difference]]:
    """The differences that there are, their p-values corrected over the configurations for each metric."""
    corrected: dict[str, dict[str, Difference]] = {name: {} for name in found}
    for metric in METRICS:
        there = {name: difference for name, by_metric in found.items() if (difference := by_metric[metric])}
        adjusted = holm([difference.p for difference in there.values()])
        for (name, difference), p in zip(there.items(), adjusted, strict=True):
            corrected[name][metric] = replace(difference, adjusted=p)
    return corrected
