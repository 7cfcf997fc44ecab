"""How well refusing tells answerable questions from others, without a model: `python -m bench.abstention [--fit]`.

The unanswerable questions (bench/questions) sound as if the paragraph answered them. Halves are split by article: the
weights and the threshold come from the development half, the figures that count from the other. Questions whose own
paragraph, or whole article, is left out of the corpus are easy ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bench.report import ROOT, Result, data, publish
from citekite import KnowledgeBase
from citekite.answer import confidence
from citekite.answer.evidence import Evidence, evidence
from citekite.answer.extract import extract
from citekite.settings import Settings
from citekite.types import Hit

PASSAGES = 5
DEPTH = 12  # enough that five passages are left when an article of five paragraphs is taken out
ARTICLE = 5  # paragraphs
Matrix = npt.NDArray[np.float64]
LANGUAGES = ("xquad_en", "xquad_de", "xquad_zh")
FIGURES = tuple(field.name for field in fields(Evidence))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what was found for it; `gold` is empty for one without an answer, `about` its paragraph."""

    question: str
    about: int
    hits: Sequence[Hit]
    gold: Sequence[str] = ()

    def without(self, *paragraphs: int) -> Asked:
        """The same question put to a corpus without these paragraphs."""
        return Asked(self.question, self.about, [hit for hit in self.hits if _paragraph(hit) not in paragraphs])

    @property
    def passages(self) -> Sequence[Hit]:
        return self.hits[:PASSAGES]

    @property
    def confidence(self) -> float:
        return confidence.confidence(self.question, self.passages)

    @property
    def holds_gold(self) -> bool:
        text = " ".join(sentence.text for sentence in extract(self.question, self.passages))
        return any(wanted in text for wanted in self.gold)


@dataclass(frozen=True, slots=True)
class Half:
    """Questions about one half of the articles."""

    answerable: Sequence[Asked]
    unanswerable: Sequence[Asked]

    @property
    def without_paragraph(self) -> list[Asked]:
        return [asked.without(asked.about) for asked in self.answerable]

    @property
    def without_article(self) -> list[Asked]:
        return [asked.without(*_article(asked.about)) for asked in self.answerable]


def _paragraph(hit: Hit) -> int:
    return int(hit.chunk.source.rpartition("#p")[2])


def _article(paragraph: int) -> range:
    first = paragraph // ARTICLE * ARTICLE
    return range(first, first + ARTICLE)


def read_half(name: str) -> list[dict[str, str]]:
    """The unanswerable questions of a half, `dev` or `test`: question, about, kind."""
    text = (ROOT / "bench" / "questions" / f"unanswerable_{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def search(kb: KnowledgeBase, name: str) -> Iterator[Asked]:
    """The answerable questions of a data set."""
    folder = data(name)
    about = dict(
        line.split("\t")[:2] for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    )
    for query in map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()):
        hits = kb.search(query["text"], k=DEPTH)
        yield Asked(query["text"], int(about[query["_id"]].removeprefix("p")), hits, query["answers"])


def halves(kb: KnowledgeBase, answerable: Sequence[Asked]) -> dict[str, Half]:
    """Both halves of the English questions."""
    found = {}
    for name in ("dev", "test"):
        rows = read_half(name)
        asked = [
            Asked(row["question"], int(row["about"].removeprefix("p")), kb.search(row["question"], k=DEPTH))
            for row in rows
        ]
        paragraphs = {question.about for question in asked}
        found[name] = Half([question for question in answerable if question.about in paragraphs], asked)
    return found


def report(name: str, half: Half, threshold: float) -> list[Result]:
    """Refusing in one half at a threshold, with precision for one unanswerable question to one and to two others."""
    answerable = np.array([asked.confidence for asked in half.answerable])
    unanswerable = np.array([asked.confidence for asked in half.unanswerable])
    refused, wrongly = (unanswerable < threshold).mean(), (answerable < threshold).mean()
    kept = [asked.holds_gold for asked, value in zip(half.answerable, answerable, strict=True) if value >= threshold]
    return [
        Result("recall of refusing", refused, at_least=0.5 if name == "test" else None),
        Result("precision, 1 unanswerable to 1", refused / (refused + wrongly)),
        Result(
            "precision, 1 unanswerable to 2",
            refused / (refused + 2 * wrongly),
            at_least=0.5 if name == "test" else None,
        ),
        Result("answerable refused", wrongly),
        Result("gold answer in the sentences", np.mean([asked.holds_gold for asked in half.answerable])),
        Result("the same, and not refused", sum(kept) / len(answerable)),
        Result("refused without the paragraph", _refused(half.without_paragraph, threshold)),
        Result("refused without the article", _refused(half.without_article, threshold)),
        Result("area under the curve", separation(answerable, unanswerable)),
        *calibration(answerable, unanswerable),
    ]


def _refused(asked: Sequence[Asked], threshold: float) -> float:
    return float(np.mean([question.confidence < threshold for question in asked]))


def separation(answerable: Matrix, unanswerable: Matrix) -> float:
    """The share of pairs in which the answerable question has the higher confidence (the area under the ROC curve)."""
    difference = answerable[:, None] - unanswerable[None]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def calibration(answerable: Matrix, unanswerable: Matrix, bins: int = 10) -> list[Result]:
    """Brier score and expected calibration error, weighted to two answerable questions to one unanswerable."""
    value = np.concatenate([answerable, unanswerable])
    truth = np.concatenate([np.ones(len(answerable)), np.zeros(len(unanswerable))])
    weight = np.where(truth == 1, 2 / len(answerable), 1 / len(unanswerable)) / 3
    place = np.minimum((value * bins).astype(int), bins - 1)
    error = sum(abs((weight * (value - truth))[place == number].sum()) for number in range(bins))
    return [
        Result("Brier score", float((weight * (value - truth) ** 2).sum())),
        Result("calibration error", float(error)),
    ]


def fit(half: Half) -> dict[str, Mapping[str, float]]:
    """The weights of both models: of the subject on questions with paragraph or article left out, of the statement on
    the unanswerable ones."""
    answerable = figures(half.answerable)
    elsewhere = np.concatenate([figures(half.without_paragraph), figures(half.without_article)])
    unanswerable = figures(half.unanswerable)
    count = len(confidence.SUBJECT_WEIGHTS) - 1
    share = np.repeat([0.25, 0.5], len(half.answerable))
    subject = logistic(answerable[:, :count], elsewhere[:, :count], share)
    even = np.full(len(unanswerable), len(answerable) / len(unanswerable) / 2)
    statement = logistic(answerable[:, count:], unanswerable[:, count:], even)
    return {
        "SUBJECT_WEIGHTS": dict(zip(("", *FIGURES[:count]), subject.round(2).tolist(), strict=True)),
        "STATEMENT_WEIGHTS": dict(zip(("", *FIGURES[count:]), statement.round(2).tolist(), strict=True)),
    }


def figures(asked: Sequence[Asked]) -> Matrix:
    """One row of figures for each question; all missing where there is no evidence."""
    found = (evidence(question.question, question.passages) for question in asked)
    return np.array([[getattr(e, name) if e else 1.0 for name in FIGURES] for e in found])


def logistic(answerable: Matrix, others: Matrix, weight: Matrix, *, penalty: float = 1.0) -> Matrix:
    """Bias and weights by Newton's method with an L2 penalty; figures whose weight would be positive are left out.

    `weight` is that of each row of `others`; a row of `answerable` weighs 1.
    """
    rows = np.concatenate([answerable, others])
    truth = np.concatenate([np.ones(len(answerable)), np.zeros(len(others))])
    weights = np.concatenate([np.ones(len(answerable)), weight])
    kept = list(range(rows.shape[1]))
    while True:
        found = _newton(np.column_stack([np.ones(len(rows)), rows[:, kept]]), truth, weights, penalty)
        if not kept or found[1:].max() <= 0:
            break
        kept.pop(int(found[1:].argmax()))
    result = np.zeros(rows.shape[1] + 1)
    result[[0, *(place + 1 for place in kept)]] = found
    return result


def _newton(rows: Matrix, truth: Matrix, weights: Matrix, penalty: float) -> Matrix:
    found = np.zeros(rows.shape[1])
    ridge = penalty * np.eye(len(found))
    ridge[0, 0] = 0.0
    for _ in range(30):
        share = 1 / (1 + np.exp(-rows @ found))
        slope = rows.T @ (weights * (share - truth)) + ridge @ found
        curve = (rows * (weights * share * (1 - share))[:, None]).T @ rows + ridge
        found -= np.linalg.solve(curve, slope)
    return found


def main(*, fitting: bool = False) -> None:
    asked: dict[str, list[Asked]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in LANGUAGES[:1] if fitting else LANGUAGES:
            with KnowledgeBase(settings=Settings(uri=f"{temporary}/{name}.db", embedder="static")) as kb:
                kb.sync(data(name) / "corpus.jsonl")
                asked[name] = list(search(kb, name))
                if name == LANGUAGES[0]:
                    both = halves(kb, asked[name])
    if fitting:
        print(json.dumps(fit(both["dev"]), indent=4))
        return
    threshold = confidence.DEFAULT_THRESHOLD
    for name, half in both.items():
        counts = f"{len(half.answerable)} answerable and {len(half.unanswerable)} unanswerable questions"
        title = f"{name} half, threshold {threshold}: {counts}"
        publish(f"abstention-{name}", title, report(name, half, threshold))
    shares = [Result(name, _refused(questions, threshold)) for name, questions in asked.items()]
    publish("abstention-languages", "answerable questions refused, by language", shares)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.abstention")
    parser.add_argument("--fit", action="store_true", help="fit the weights on the development half and print them")
    main(fitting=parser.parse_args().fit)
