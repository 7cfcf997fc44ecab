"""How well the check of sentences tells statements that a paragraph supports from others, on statements made by rule.

Supported: a sentence of an English XQuAD paragraph, reworded a little; and the words of a question with its answer,
which a person chose freely. Not supported: the sentence with a number or a name exchanged, negated, or taken from
another article. A statement counts as accepted when its verdict is `supported`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import regex

from bench.report import Result, data, publish
from citekite.answer.sentences import units
from citekite.answer.support import check_claims
from citekite.answer.wordlists import FRAME
from citekite.events import Cited
from citekite.types import Chunk, Hit, Verdict

DATA_SET = "xquad_en"
_NUMBER = regex.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_NAME = regex.compile(r"(?<=[a-z,] )\p{Lu}\p{Ll}{3,}(?: \p{Lu}\p{Ll}+)*")
_VERB = regex.compile(r"\b(is|was|are|were|can|could|will|would|has been|had been)\b(?! not)")
_ASIDE = regex.compile(r" \([^()]*\)")
_REWORDED = {
    "began": "started", "however": "but", "many": "a lot of", "about": "around", "because": "since", "large": "big",
    "several": "some", "while": "whereas", "used": "employed", "located": "situated", "built": "constructed",
    "include": "comprise", "includes": "comprises", "main": "chief", "often": "frequently", "also": "too",
}  # fmt: skip


def statements(paragraphs: Sequence[str], seed: int = 0) -> Iterator[tuple[str, str, int]]:
    """Each statement with its kind (`true` or how it is false) and the paragraph that it is said to come from."""
    chance = random.Random(seed)
    names = sorted({name for text in paragraphs for name in _NAME.findall(text)})
    for place, text in enumerate(paragraphs):
        sentences = [text[unit.start : unit.end] for unit in units(text) if unit.end - unit.start > 60]
        sentence = chance.choice(sentences)
        yield reworded(sentence), "true", place
        if number := _NUMBER.search(sentence):
            yield sentence.replace(number[0], _another(number[0], chance), 1), "number", place
        if name := _NAME.search(sentence):
            other = chance.choice([found for found in names if found not in text])
            yield sentence.replace(name[0], other), "name", place
        if verb := _VERB.search(sentence):
            yield f"{sentence[: verb.end()]} not{sentence[verb.end() :]}", "negated", place
        yield sentence, "elsewhere", (place + 20) % len(paragraphs)


def reworded(sentence: str) -> str:
    """A sentence without asides and with some words replaced."""
    sentence = _ASIDE.sub("", sentence)
    return regex.sub(r"\w+", lambda word: _REWORDED.get(word[0], word[0]), sentence)


def as_asked(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Statements made of a question without its question words and its answer, with their paragraph's id."""
    about = dict(line.split("\t")[:2] for line in (data(DATA_SET) / "qrels" / "test.tsv").read_text().splitlines()[1:])
    for row in rows:
        words = FRAME.sub(" ", row["text"].rstrip("? "))
        yield f"{' '.join(words.split())} {row['answers'][0]}", about[row["_id"]]


def verdict(statement: str, paragraph: str) -> Verdict:
    """The verdict on a statement that cites the paragraph."""
    chunk = Chunk("p", "p", "", 0, 0, len(paragraph), paragraph)
    body = statement.rstrip(".") + " [1]."
    claims = check_claims(body, (Hit(chunk, 1.0, 1, {}),), (Cited(1, body.rindex("[")),))
    order: tuple[Verdict, ...] = ("not_supported", "partly", "supported")
    return min((claim.verdict for claim in claims), key=order.index)


def _another(number: str, chance: random.Random) -> str:
    digits = [place for place, sign in enumerate(number) if sign.isdigit()]
    place = chance.choice(digits)
    return number[:place] + str((int(number[place]) + chance.randint(1, 8)) % 9 + 1) + number[place + 1 :]


def main() -> None:
    lines = (data(DATA_SET) / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    paragraphs = [row["text"] for row in rows]
    verdicts: dict[str, list[Verdict]] = {}
    for statement, kind, place in statements(paragraphs):
        verdicts.setdefault(kind, []).append(verdict(statement, paragraphs[place]))
    true = verdicts.pop("true")
    by_id = dict(zip((row["_id"] for row in rows), paragraphs, strict=True))
    questions = [json.loads(line) for line in (data(DATA_SET) / "queries.jsonl").read_text("utf-8").splitlines()]
    asked = [verdict(statement, by_id[about]) for statement, about in as_asked(questions)]
    false = [found for kind in verdicts.values() for found in kind]
    caught = sum(found != "supported" for found in false)
    wrongly = sum(found != "supported" for found in true)
    results = [
        Result("true statements supported", 1 - wrongly / len(true)),
        Result("true statements not supported at all", true.count("not_supported") / len(true)),
        Result("question and answer supported", asked.count("supported") / len(asked)),
        Result("question and answer not supported at all", asked.count("not_supported") / len(asked)),
        *(
            Result(f"caught: {kind}", sum(one != "supported" for one in found) / len(found))
            for kind, found in verdicts.items()
        ),
        Result("recall of what is false", caught / len(false)),
        Result("precision of what is reported", caught / (caught + wrongly)),
    ]
    publish("claims", f"{DATA_SET}: {len(true)} true and {len(false)} false statements", results)
