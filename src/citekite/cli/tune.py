"""Commands that make a question set and tune the collection on one: eval questions, tune."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citekite.cli.options import CHAT, EMBED, ENDPOINT, RETRIEVE, STORE, takes_settings
from citekite.cli.progress import reporting
from citekite.cli.show import bold, counted, dim
from citekite.cli.target import open_directly
from citekite.errors import SettingsError, status_of

if TYPE_CHECKING:
    from citekite.evaluate.crossvalidate import Choice
    from citekite.evaluate.tune import Tuning
    from citekite.evaluate.written import QuestionSet
    from citekite.knowledge_base import KnowledgeBase
    from citekite.settings import Settings

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@takes_settings(*RETRIEVE, *EMBED, *CHAT, *ENDPOINT, *STORE)
def questions(
    arguments: dict[str, Any],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("questions.jsonl"),
    count: Annotated[int, typer.Option("--count", min=1, help="How many questions.")] = 200,
    unanswerable: Annotated[
        float, typer.Option("--unanswerable", min=0, max=1, help="Share of questions that nothing answers.")
    ] = 0.3,
    seed: Annotated[int, typer.Option("--seed", help="Another seed gives other questions.")] = 0,
    headings: Annotated[
        bool, typer.Option("--headings", help="Make them of headings, also with a chat model.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Make a question set from the collection: written by the chat model, or without one made of headings."""
    from citekite.answer.generate import make_generator
    from citekite.evaluate.dataset import write_questions
    from citekite.evaluate.questions import make_questions

    if output.exists() and not force:
        raise SettingsError(f"{output} is there already, maybe with your edits: choose another --output, or --force")
    with open_directly(arguments, "eval questions") as kb, reporting(quiet=quiet) as report:
        generator = None if headings else make_generator(kb.settings, alone=True)
        made = make_questions(kb, generator, count=count, unanswerable=unanswerable, seed=seed, report=report)
    try:
        write_questions(output, made.questions)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror}") from None
    print(describe_questions(made, str(output), count, round(unanswerable * count)))
    if made.error:
        print(f"citekite: stopped early: {made.error}", file=sys.stderr)
        raise typer.Exit(status_of(made.error).exit_code)


@takes_settings(*RETRIEVE, *EMBED, *ENDPOINT, *STORE)
def tune(
    arguments: dict[str, Any],
    dataset: Annotated[
        str | None, typer.Argument(metavar="QUESTIONS", help="A .jsonl file of questions.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be recorded, and record nothing.")
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the defaults.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Choose lexical weight, k and abstention threshold on questions, and record them where they beat the defaults."""
    if reset == (dataset is not None):
        raise SettingsError(
            "tune needs a file of questions, or --reset alone: `citekite eval questions` makes the file"
        )
    with open_directly(arguments, "tune") as kb, reporting(quiet=quiet) as report:
        if dataset is None:
            kb.set_tuned()
            print("The collection uses the defaults again.")
            return
        from citekite.evaluate.dataset import read_dataset
        from citekite.evaluate.tune import tune as run

        found = run(kb, read_dataset(dataset).questions, report)
        if not dry_run and found.better != kb.collection().record.tuned:
            _record(kb, found.better)
        settings = kb.settings
    if as_json:
        from dataclasses import asdict

        print(json.dumps({**asdict(found), "better": found.better, "recorded": not dry_run}, indent=2))
    else:
        print(describe_tuning(found, settings, dry_run=dry_run))


def _record(kb: KnowledgeBase, better: Mapping[str, float]) -> None:
    k = better.get("k")
    kb.set_tuned(
        lexical_weight=better.get("lexical_weight"),
        k=None if k is None else int(k),
        abstain_threshold=better.get("abstain_threshold"),
    )


def describe_questions(made: QuestionSet, output: str, count: int, unanswerable: int) -> str:
    """What `eval questions` prints."""
    documents = {source for one in made.questions for source in (*one.sources, one.source) if source}
    without = [one for one in made.questions if not one.answerable]
    lines = [
        bold(f"wrote {output}: {counted(len(made.questions), 'question')}, {len(without):,} of them without an answer"),
        dim(
            f"written by {made.model} from passages"
            if made.model
            else f"made of headings of {counted(len(documents), 'document')}; the heading is hidden from the search"
        ),
    ]
    if made.dropped:
        lines.append(f"dropped: {', '.join(f'{number:,} {reason}' for reason, number in made.dropped.items())}")
    if made.usage.prompt_tokens:
        lines.append(f"{made.usage.prompt_tokens:,} prompt tokens, {made.usage.completion_tokens:,} completion tokens")
    if len(made.questions) < count:
        lines.append(f"{count:,} were asked for: the collection, or the model, gave no more.")
    if not made.model and len(without) < unanswerable:
        lines.append(
            f"{unanswerable:,} without an answer were asked for: of the other headings something is said elsewhere too."
        )
    lines += [
        "",
        "Look through the file: mend or delete what you would not ask. Then",
        f"  citekite eval run {output}",
        f"  citekite tune {output}",
    ]
    return "\n".join(lines)


def describe_tuning(found: Tuning, settings: Settings, *, dry_run: bool) -> str:
    """What `tune` prints: each value with what it gains on questions that had no say in it."""
    rows: Mapping[str, tuple[Choice | None, str]] = {
        "lexical_weight": (found.lexical_weight, "nDCG@10"),
        "k": (found.k, "recall@k less 0.005 k"),
        "abstain_threshold": (found.abstain_threshold, "balanced accuracy of refusing"),
    }
    lines = [
        bold(
            f"{counted(found.answerable, 'question')} with evidence, {found.unanswerable:,} without an answer; "
            f"5 folds, figures of held-out questions"
        )
    ]
    for name, (choice, metric) in rows.items():
        if choice is None:
            lines.append(f"{name}: not tuned, it takes 20 questions of each kind (with evidence, without an answer)")
            continue
        lines.append(_choice_line(name, choice, metric))
        if choice.is_better and getattr(settings, name) is not None:
            lines.append(f"  the setting {name} = {getattr(settings, name):g} wins over what is recorded")
    done = "would be recorded" if dry_run else "recorded with the collection"
    kept = "Nothing is better than the defaults, which stay."
    lines += ["", f"{', '.join(found.better)}: {done}." if found.better else kept]
    return "\n".join(lines)


def _choice_line(name: str, choice: Choice, metric: str) -> str:
    difference = choice.difference
    change = f"{choice.default:g} -> {choice.value:g}" if choice.is_better else f"kept the default {choice.default:g}"
    best = "" if choice.is_better else f" (best here: {choice.value:g})"
    return (
        f"{name}: {change}{best}; {metric} {choice.default_score:.3f} -> {choice.held_out:.3f}, "
        f"{difference.mean:+z.3f} (95 % interval {difference.low:+z.3f} to {difference.high:+z.3f})"
    )
