"""Question sets in files: a BEIR folder, or JSON Lines over a collection that is there already.

BEIR (Thakur et al. 2021, https://arxiv.org/abs/2104.08663) keeps a corpus, queries and relevance judgments (qrels) in
three files. The lines of a question file hold `question` and what answers it; `citekite.evaluate.question` names the
fields.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from citekite.errors import SourceError
from citekite.evaluate.question import Question
from citekite.wellformed import well_formed

# The key of a line -> the field of `Question`; a passage may be called what a chunk or a row calls it.
_KEYS = {"question": "text", "chunk": "passages", "text": "passages"} | {
    field.name: field.name for field in fields(Question) if field.name != "text"
}
_LISTS = ("sources", "passages", "answers", "heading")
# What says whether anything answers a question, and the value that says yes; SQuAD 2 has `is_impossible`.
_ANSWERABLE = {"answerable": True, "unanswerable": False, "is_impossible": False}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A question set: its name, its questions, and for a BEIR folder the file with its documents.

    `left_out` counts queries of a BEIR folder for which there is no judgment.
    """

    name: str
    questions: tuple[Question, ...]
    corpus: Path | None = None
    left_out: int = 0


def read_dataset(path: str | Path, *, split: str | None = None) -> Dataset:
    """The question set in a BEIR folder or a JSON Lines file.

    `split` names the file in `qrels/` of a BEIR folder; by default the only one, else `test`. Raises `SourceError`
    naming file and line.
    """
    path = Path(path)
    if path.is_dir():
        return _read_beir(path, split)
    if not path.is_file():
        raise SourceError(f"there is no question set {str(path)!r}: give a .jsonl file of questions, or a BEIR folder")
    if split is not None:
        raise SourceError(f"{path} is one file of questions, so it has no split {split!r}: leave the split out")
    questions = tuple(_question(row, _Place(path, number)) for number, row in _rows(path))
    _check_ids(path, questions)
    return Dataset(path.stem, questions)


def write_questions(path: str | Path, questions: tuple[Question, ...] | list[Question]) -> None:
    """Write questions as JSON Lines that `read_dataset` reads back as they are; empty fields are left out."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for question in questions:
            row: dict[str, Any] = {"id": question.id, "question": question.text}
            for field in fields(Question)[2:]:
                value = getattr(question, field.name)
                if value != field.default:
                    row[field.name] = value
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    line: int

    def error(self, problem: str) -> SourceError:
        return SourceError(f"{self.path}, line {self.line}: {problem}")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; blank lines are skipped."""
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _Place(path, number).error(f"this is not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise _Place(path, number).error(f'a line is a JSON object such as {{"question": ...}}, not {line[:60]}')
        yield number, row


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line


def _question(row: Mapping[str, Any], place: _Place) -> Question:
    values: dict[str, Any] = {"id": str(place.line), "answerable": _answerable(row, place)}
    for key, value in row.items():
        if key in _ANSWERABLE:
            continue
        if key not in _KEYS:
            raise place.error(_unknown(key))
        name = _KEYS[key]
        if name in values and name != "id":
            raise place.error(f"{key!r} says again what another key said: passages stand under one of the keys")
        values[name] = _value(name, key, value, place)
    if not values.get("text", "").strip():
        raise place.error("the question is missing: write it under 'question'")
    question = Question(**values)
    _check(question, place)
    return question


def _answerable(row: Mapping[str, Any], place: _Place) -> bool:
    """Whether anything answers the question, by whichever key says so."""
    given = {key: row[key] for key in _ANSWERABLE if key in row}
    for key, value in given.items():
        if not isinstance(value, bool):
            raise place.error(f"{key!r} is true or false, not {value!r}")
    said = {value == _ANSWERABLE[key] for key, value in given.items()}
    if len(said) > 1:
        raise place.error(f"{' and '.join(map(repr, given))} contradict each other: keep one of them")
    return said.pop() if said else True


def _value(name: str, key: str, value: Any, place: _Place) -> Any:
    """A value as the field's type; a single text stands for a list of one."""
    if name == "id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if name == "grades":
        if isinstance(value, list) and all(type(grade) is int and grade > 0 for grade in value):
            return tuple(value)
        raise place.error(f"'grades' is a list of whole numbers above 0, one for each source, not {value!r}")
    if name not in _LISTS:
        if isinstance(value, str):
            return well_formed(value)
        raise place.error(f"{key!r} is a text, not {value!r}")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise place.error(f"{key!r} is a list of texts, none of them empty, not {value!r}")
    return tuple(map(well_formed, texts))


def _check(question: Question, place: _Place) -> None:
    gold = question.sources or question.passages or question.answers
    if question.answerable and not gold:
        raise place.error(
            "nothing says what answers this question: give 'sources', 'passages' or 'answers', or write "
            '"answerable": false'
        )
    if not question.answerable and gold:
        raise place.error(
            "the question is marked as not answerable, yet has sources, passages or answers: take one of them out"
        )
    if question.grades and len(question.grades) != len(question.sources):
        raise place.error(f"there are {len(question.grades)} grades for {len(question.sources)} sources")
    if question.heading and not question.source:
        raise place.error("'heading' needs 'source', the document in which that heading stands")


def _check_ids(path: Path, questions: tuple[Question, ...]) -> None:
    if not questions:
        raise SourceError(f"{path} has no questions")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise SourceError(f"{path} has two questions with the id {question.id!r}: give each an id of its own")
        seen.add(question.id)


def _unknown(key: str) -> str:
    known = _KEYS.keys() | _ANSWERABLE.keys()
    close = difflib.get_close_matches(key, sorted(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"a question has {', '.join(sorted(known))}"
    return f"unknown key {key!r}: {hint}"


def _read_beir(folder: Path, split: str | None) -> Dataset:
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise SourceError(
                f"{folder} has no {name}: a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/*.tsv"
            )
    corpus = folder / "corpus.jsonl"
    judgments = _judgments_file(folder / "qrels", split)
    judged = _read_judgments(judgments)
    questions = []
    left_out = 0
    for number, row in _rows(folder / "queries.jsonl"):
        place = _Place(folder / "queries.jsonl", number)
        question = _beir_question(row, judged, corpus.name, place)
        if question.sources or not question.answerable:
            questions.append(question)
        else:
            left_out += 1
    if left_out and not questions:
        raise SourceError(f"{judgments} names no relevant document for any query of {folder / 'queries.jsonl'}")
    _check_ids(folder / "queries.jsonl", tuple(questions))
    return Dataset(folder.resolve().name, tuple(questions), corpus, left_out)


def _beir_question(
    row: Mapping[str, Any], judged: Mapping[str, Mapping[str, int]], corpus: str, place: _Place
) -> Question:
    """A line of `queries.jsonl`; other keys than those we use (`metadata`) are the set's own business."""
    if not isinstance(row.get("_id"), str | int) or not isinstance(row.get("text"), str):
        raise place.error("a query has a text under '_id' and under 'text'")
    answerable = _answerable(row, place)
    id = str(row["_id"])
    relevant = judged.get(id, {}) if answerable else {}
    return Question(
        id=id,
        text=well_formed(row["text"]),
        sources=tuple(f"{corpus}#{document}" for document in relevant),
        answers=_value("answers", "answers", row.get("answers", []), place) if answerable else (),
        answerable=answerable,
        grades=() if set(relevant.values()) <= {1} else tuple(relevant.values()),
    )


def _judgments_file(folder: Path, split: str | None) -> Path:
    found = {path.stem: path for path in sorted(folder.glob("*.tsv"))}
    if not found:
        raise SourceError(f"{folder} holds no .tsv file with relevance judgments (query-id, corpus-id, score)")
    if split is not None and split not in found:
        raise SourceError(f"{folder} has no split {split!r}: it has {', '.join(found)}")
    chosen = split or (next(iter(found)) if len(found) == 1 else "test")
    if chosen not in found:
        raise SourceError(f"{folder} has several splits and none named test: choose one of {', '.join(found)}")
    return found[chosen]


def _read_judgments(path: Path) -> dict[str, dict[str, int]]:
    """The relevant documents of each query with their grades; a grade of 0 says that a document is not relevant."""
    judged: dict[str, dict[str, int]] = {}
    for position, (number, line) in enumerate(_lines(path)):
        cells = line.strip("\r").split("\t")
        try:
            query, document, grade = cells[0], cells[1], int(cells[2])
        except (IndexError, ValueError):
            if position == 0 and len(cells) >= 3:
                continue  # the header
            raise _Place(path, number).error(
                f"a judgment is query-id, corpus-id and a whole number, split by tabs, not {line[:60]!r}"
            ) from None
        if grade > 0:
            judged.setdefault(query, {})[document] = grade
    return judged
