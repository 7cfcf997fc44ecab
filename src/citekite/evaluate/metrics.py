"""What one question scores: retrieval metrics from ir-measures, and ours for answers and citations.

Every score is that of one question, so that a mean can have an interval and two runs can be compared question by
question. docs/evaluation.md says in words what each metric means.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import regex

from citekite.errors import importing
from citekite.evaluate.question import Question
from citekite.evaluate.relevance import gold, matches
from citekite.types import Answer

# Name -> how ir-measures writes it; what a question scores lies between 0 and 1 for each.
RETRIEVAL = {
    "nDCG@10": "nDCG@10",
    "MRR@10": "RR@10",
    "recall@1": "R@1",
    "recall@3": "R@3",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "hit rate@10": "Success@10",
}
ANSWER = (
    "contains gold",
    "token F1",
    "citation precision",
    "citation recall",
    "abstention precision",
    "abstention recall",
)
DEPTH = 10

_MARKER = re.compile(r"\[\d+\]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = regex.compile(rf"[{re.escape(string.punctuation)}\p{{P}}]")
_SPACELESS = regex.compile(r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])")


def import_measures() -> None:
    """Raise `MissingExtra` where ir-measures is not installed: best known before a set has been asked."""
    with importing("ir_measures", "eval", "evaluation"):
        import ir_measures  # noqa: F401


def retrieval_scores(
    wanted: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """What each question scores by each metric of `RETRIEVAL`, keyed by question id and metric.

    `wanted` holds the relevant items of each question with their grades, `rankings` the items found, best first. nDCG
    has the grade as its gain (Järvelin and Kekäläinen 2002), the others count every grade alike. Raises
    `MissingExtra` without ir-measures.

    >>> scores = retrieval_scores({"1": {"a": 1, "b": 1}}, {"1": ["c", "a"]})
    >>> scores["1"]["recall@3"], scores["1"]["MRR@10"], round(scores["1"]["nDCG@10"], 3)
    (0.5, 0.5, 0.387)
    """
    import_measures()
    import ir_measures

    measures = {ir_measures.parse_measure(text): name for name, text in RETRIEVAL.items()}
    judged = [ir_measures.Qrel(id, item, grade) for id, items in wanted.items() for item, grade in items.items()]
    run = [
        ir_measures.ScoredDoc(id, item, -float(rank))
        for id, items in rankings.items()
        if id in wanted
        for rank, item in enumerate(items)
    ]
    scores: dict[str, dict[str, float]] = {id: {} for id in wanted}
    for score in ir_measures.iter_calc(list(measures), judged, run):
        scores[score.query_id][measures[score.measure]] = float(score.value)
    return {id: {name: scores[id][name] for name in RETRIEVAL} for id in wanted}


def ndcg(wanted: Mapping[str, int], ranked: Sequence[str]) -> float:
    """nDCG@10 of one ranking.

    >>> ndcg({"a": 1}, ["a", "b"]), ndcg({"a": 1}, [])
    (1.0, 0.0)
    """
    return retrieval_scores({"": wanted}, {"": ranked})[""]["nDCG@10"]


def answer_scores(question: Question, answer: Answer) -> dict[str, float]:
    """What an answer scores by the metrics of `ANSWER` that its question has a say in.

    Gold answers are compared with the text, citations with the gold sources or passages; an answer that refuses
    scores 0 against gold answers and has no say in citations. Abstention precision is of the questions that were
    refused, its recall of those that have no answer.
    """
    refused = answer.outcome == "no_evidence"
    scores: dict[str, float] = {}
    if question.answers:
        text = "" if refused else _MARKER.sub(" ", answer.text)
        scores["contains gold"] = max(float(contains(text, wanted)) for wanted in question.answers)
        scores["token F1"] = max(token_f1(text, wanted) for wanted in question.answers)
    wanted_ids = gold(question)
    if wanted_ids and not refused:
        matched = [set(matches(question, citation.hit.chunk)) for citation in answer.citations]
        scores["citation precision"] = sum(map(bool, matched)) / len(matched) if matched else 0.0
        scores["citation recall"] = len(set().union(*matched)) / len(wanted_ids)
    if refused:
        scores["abstention precision"] = float(not question.answerable)
    if not question.answerable:
        scores["abstention recall"] = float(refused)
    return scores


def contains(text: str, wanted: str) -> bool:
    """Whether the words of a gold answer stand in a text, in order and side by side.

    >>> contains("It is The Object-Storage, called S3.", "object-storage"), contains("fourteen", "four")
    (True, False)
    """
    return f" {' '.join(answer_tokens(wanted))} " in f" {' '.join(answer_tokens(text))} "


def token_f1(text: str, wanted: str) -> float:
    """The harmonic mean of precision and recall of a text's tokens against those of a gold answer (SQuAD's F1).

    >>> token_f1("the red kite", "A kite"), token_f1("owl", "kite")
    (0.6666666666666666, 0.0)
    """
    found, gold_tokens = answer_tokens(text), answer_tokens(wanted)
    if not found or not gold_tokens:
        return float(found == gold_tokens)
    common = (Counter(found) & Counter(gold_tokens)).total()
    return 2 * common / (len(found) + len(gold_tokens))


def answer_tokens(text: str) -> list[str]:
    """Tokens by SQuAD's normalisation: lower case, no punctuation, no English articles, split at white space.

    Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250); as in MLQA (Lewis et al. 2020,
    https://arxiv.org/abs/1910.07475), a letter of a script without spaces is a token of its own.

    >>> answer_tokens("The Kite's tail."), answer_tokens("猛禽 a")
    (['kites', 'tail'], ['猛', '禽'])
    """
    plain = _ARTICLE.sub(" ", _PUNCTUATION.sub("", text.lower()))
    return _SPACELESS.sub(r" \1 ", plain).split()
