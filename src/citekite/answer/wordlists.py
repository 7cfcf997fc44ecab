"""Words that turn a statement round: negations, exclusions, superlatives and pairs of opposites."""

from __future__ import annotations

import regex

NEGATION = regex.compile(
    r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|unable|fail(?:s|ed)?|refuse[sd]?|lack(?:s|ed|ing)?"
    r"|nicht|kein\w*|nie(?:mals)?|ohne|ne|pas|jamais|sans|nunca|sin)\b|n['’]t\b|不|没|未|非|无",
    regex.IGNORECASE,
)
EXCLUSION = regex.compile(
    r"\b(?:besides|except|excluding|other than|apart from|aside from|instead of|in place of|rather than|regardless"
    r"|outside(?: of)?|as opposed|unlike|außer|anstatt|statt|sauf|excepto)\b|除了|以外|之外|而不是",
    regex.IGNORECASE,
)
# Stands at the start of a sentence for what the one before is about.
PRONOUN = regex.compile(
    r"(?:it|its|he|his|she|her|they|their|this|these|il|elle|ils|elles|er|sie|es|dies\w*)\b|[他她它这]",
    regex.IGNORECASE,
)
# What goes before the one who acts, where a verb is passive.
PASSIVE = regex.compile(r"\b(?:by|par|por|von|durch)\b|被", regex.IGNORECASE)
# Names of equal standing: "IVF_FLAT and HNSW".
JOINED = regex.compile(r"\w (?:and|or|vs\.?|und|oder|et|ou|y|o) \p{Lu}")
SUPERLATIVE = regex.compile(r"least|most|worst|best|last|first|\w{3,}est", regex.IGNORECASE)
# Words that narrow what is asked for.
QUALIFIER = regex.compile(
    r"first|last|only|ever|never|always|finally|directly|permanent(?:ly)?|initial(?:ly)?|original(?:ly)?|least|most|latest"
    r"|earliest|current(?:ly)?|former(?:ly)?|entire(?:ly)?|solely|exactly|average|mean|median|annual(?:ly)?|official(?:ly)?"
    r"|complete(?:d|ly)?|before|after|until|since|again|\w{3,}est",
    regex.IGNORECASE,
)
# What only puts the question and says nothing of its subject.
FRAME = regex.compile(
    r"\b(?:how (?:many|much|long|old|far|tall|high|large|big|often|fast|deep|wide|heavy)"
    r"|(?:what|which) (?:year|date|day|month|century|decade|percentage|percent|proportion|number|amount)(?: of)?"
    r"|(?:what|which) (?:kinds?|types?|sorts?|names?)(?: of)?|(?:the )?names? (?:of|for)|name (?:a|an|one|two|the)"
    r"|how (?:do|does|did|can|could|should|would) (?:i|you|we|one)(?: (?:do|get|make))?"
    r"|(?:called|named|known as)(?=\W*$)"
    r"|(?:is|are|was|were) (?:called|named|known as)|according to|refer(?:s|red)? to as|what else|used to|as what"
    r"|wer|wen|wem|wessen|was|wann|wo|wohin|woher|wie ?viele?|wie (?:lange|alt|hoch|oft|weit|groß)|wie|warum|wieso"
    r"|welche[rsnm]?(?: jahr)?|der|das|den|dem|des|ein(?:e[rnms]?)?|und|oder|im|vom|von|zu[mr]?|mit|auf|für|bei|aus"
    r"|ist|sind|wurden?|wird|werden|haben|hatten?|sich|als"
    r"|qui|que|quoi|quand|où|comment|combien|pourquoi|quel(?:le)?s?|quién|qué|cuándo|dónde|cómo|cuánt[oa]s?|cuál(?:es)?)\b"
    r"|(?<=\p{L})['’]s\b|什么时候|什么样|为什么|什么|哪[些个里一年种]*|谁的?|多少|几[个年]?|多[长久大高]|怎[么样]+|如何|何时|何地|[是的了在被和与]",
    regex.IGNORECASE,
)
_PAIRS = """
large small; larger smaller; largest smallest; big small; bigger smaller; biggest smallest; high low; higher lower;
highest lowest; long short; longer shorter; longest shortest; most least; more less; more fewer; many few; best
worst; better worse; first last; early late; earlier later; earliest latest; old new; older newer; oldest newest;
old young; older younger; oldest youngest; north south; northern southern; east west; eastern western; northeast
southwest; northwest southeast; upper lower; top bottom; up down; increase decrease; increased decreased; increasing
decreasing; increases decreases; rise fall; rose fell; rising falling; gain lose; gained lost; win lose; won lost;
winning losing; winner loser; begin end; began ended; beginning end; start stop; started stopped; start end; started
ended; open close; opened closed; opening closing; buy sell; bought sold; before after; prior after; public private;
male female; men women; man woman; boys girls; father mother; son daughter; brother sister; husband wife; king
queen; allow forbid; allowed forbidden; allow prohibit; allowed prohibited; allowed banned; accept reject; accepted
rejected; support oppose; supported opposed; supporters opponents; agree disagree; agreed disagreed; strong weak;
stronger weaker; strongest weakest; strengthen weaken; rich poor; richer poorer; richest poorest; wealthy poor; fast
slow; faster slower; fastest slowest; hot cold; hotter colder; hottest coldest; warm cool; warmer cooler; dry wet;
easy difficult; easy hard; simple complex; light heavy; light dark; inside outside; internal external; inner outer;
import export; imports exports; major minor; majority minority; maximum minimum; positive negative; include exclude;
included excluded; create destroy; created destroyed; built demolished; arrive leave; arrived left; join leave;
joined left; enter leave; entered left; success failure; successful unsuccessful; common rare; popular unpopular;
possible impossible; legal illegal; born died; birth death; alive dead; attack defend; attacked defended; offense
defense; offensive defensive; ancient modern; cheap expensive; cheapest expensive; friend enemy; ally enemy;
appointed dismissed; hired fired; remember forget; remove add; removed added; deny admit; denied admitted; decline
growth; declined grew; shrink grow; shrank grew; conservative liberal; urban rural; front rear; front back;
horizontal vertical; wide narrow; wider narrower; deep shallow; thick thin; active inactive; visible invisible; even
odd; finite infinite; direct indirect; formal informal; native foreign; domestic foreign; rarely often; seldom
often; always never; frequently rarely; underestimated overestimated; ban allow; banned allowed; encouraged
discouraged; approved rejected; victory defeat; defeated won; ascending descending
"""


def _table() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _PAIRS.split(";"):
        one, other = pair.split()
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


_OPPOSITES = _table()


def opposites(word: str) -> frozenset[str]:
    """The opposites of an English word that are listed here.

    >>> sorted(opposites("decreased"))
    ['increased']
    """
    return _OPPOSITES.get(word, frozenset())
