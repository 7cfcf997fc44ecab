"""The shape of the package: imports point one way, modules stay small, importing is cheap and reads nothing."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import citekite

ROOT = Path(citekite.__file__).parent
# "About 350 lines, about 40 lines": past these there are two ideas in one place.
MOST_LINES = 360
MOST_FUNCTION_LINES = 50

# From the bottom up. A module imports from its own layer and those below; the first prefix that fits names its layer.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what flows", ("access", "errors", "events", "explanation", "parse", "render", "reports", "types", "wellformed")),
    (
        "agreements",
        (
            "cancel",
            "contexts",
            "metering",
            "ports",
            "preload",
            "prices",
            "providers",
            "retry",
            "settings",
            "telemetry",
            "timing",
            "tokens",
        ),
    ),
    (
        "pure stages",
        (
            "answer.asked_for",
            "answer.cite",
            "answer.confidence",
            "answer.deep_prompt",
            "answer.evidence",
            "answer.extract",
            "answer.inert",
            "answer.prompt",
            "answer.sentences",
            "answer.quantities",
            "answer.support",
            "answer.verify",
            "answer.wordlists",
            "embed.vectors",
            "ingest.contextual",
            "ingest.pack",
            "ingest.sections",
            "ingest.split",
            "retrieve.duplicates",
            "retrieve.expand",
            "retrieve.filter",
            "retrieve.fuse",
            "retrieve.lexical",
            "retrieve.parts",
            "retrieve.projection",
        ),
    ),
    (
        "edges",
        (
            "answer",
            "connection",
            "embed",
            "endpoint",
            "home",
            "ingest",
            "models",
            "retrieve",
            "store",
            "transfer",
        ),
    ),
    ("facade", ("knowledge_base", "remote")),
    ("checks", ("doctor", "evaluate")),
    ("entry points", ("serve", "cli", "__main__")),
)
HEAVY = (
    "bs4",
    "docx",
    "fastapi",
    "fsspec",
    "httpx2",
    "lxml",
    "mcp",
    "milvus_lite",
    "numpy",
    "openai",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "pymilvus",
    "pypdfium2",
    "ray",
    "rich",
    "starlette",
    "tantivy",
    "typer",
    "uvicorn",
    "wordllama",
)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def _imports(path: Path, *, within_functions: bool = True) -> Iterator[str]:
    """The modules of citekite that a module imports when it runs, without those for the type checker alone."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.FunctionDef) and not within_functions:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            todo += ast.iter_child_nodes(node)
            continue
        for target in targets:
            name = target.removeprefix("citekite.")
            if name in MODULES:
                yield name
            elif target.startswith("citekite.") and name.rpartition(".")[0] in MODULES:
                yield name.rpartition(".")[0]


def _layer(module: str) -> int:
    for number, (_, prefixes) in enumerate(LAYERS):
        if any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
            return number
    raise AssertionError(f"the module {module} is in no layer: give it one")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_of_a_layer_above(module: str) -> None:
    above = {name for name in _imports(MODULES[module]) if _layer(name) > _layer(module)}

    assert not above, f"{module} ({LAYERS[_layer(module)][0]}) imports {above}"


def test_the_layers_name_only_modules_that_exist() -> None:
    assert {prefix for _, prefixes in LAYERS for prefix in prefixes} <= set(MODULES)


def test_imports_at_the_top_of_modules_form_no_circle() -> None:
    graph = {module: set(_imports(path, within_functions=False)) for module, path in MODULES.items()}

    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(MODULES)


def test_modules_stay_small() -> None:
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}

    assert {module: count for module, count in lines.items() if count > MOST_LINES} == {}


def test_functions_stay_small() -> None:
    lines = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }

    assert {function: count for function, count in lines.items() if count > MOST_FUNCTION_LINES} == {}


def test_the_public_names_are_sorted_and_each_is_found_at_its_home() -> None:
    assert list(citekite.__all__) == sorted(citekite.__all__)
    assert set(citekite.__all__) == set(citekite._HOMES)
    for name, home in citekite._HOMES.items():
        assert getattr(citekite, name) is getattr(importlib.import_module(f"citekite.{home}"), name)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'citekite' has no attribute 'KnowlegeBase'"):
        citekite.KnowlegeBase  # noqa: B018


def _imported(code: str, forbidden: tuple[str, ...]) -> list[str]:
    """Which of the forbidden modules a fresh interpreter has loaded after this code."""
    program = f"import json, sys\n{code}\nprint(json.dumps(sorted(set({forbidden!r}) & set(sys.modules))))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(run.stdout)
    return found


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert _imported("import citekite", HEAVY) == []


def test_importing_every_module_loads_no_client_parser_or_model() -> None:
    # httpx2 comes with mcp, whose package imports its client, and opentelemetry (its API alone) with fastapi.
    allowed = (
        "fastapi",
        "httpx2",
        "mcp",
        "numpy",
        "opentelemetry",
        "prometheus_client",
        "pydantic",
        "rich",
        "starlette",
        "typer",
        "uvicorn",
    )
    code = "\n".join(f"import citekite.{module}" for module in MODULES if module != "__main__")

    assert _imported(code, tuple(name for name in HEAVY if name not in allowed)) == []


def test_importing_every_module_reads_neither_environment_nor_settings_file(tmp_path: Path) -> None:
    """Everything that reads a variable of ours meets one that refuses to be read."""
    (tmp_path / "citekite.toml").write_text("this is no toml", encoding="utf-8")
    program = (
        "import importlib, os\n"
        "class Watched(type(os.environ)):\n"
        "    def __getitem__(self, key):\n"
        "        assert not key.startswith(('CITEKITE_', 'FIREWORKS_', 'OPENAI_', 'MILVUS_')), key\n"
        "        return super().__getitem__(key)\n"
        "os.environ.__class__ = Watched\n"
        "try:\n"
        "    os.environ['CITEKITE_K']\n"
        "except AssertionError:\n"
        "    print('watched')\n"
        f"for name in {[module for module in MODULES if module != '__main__']!r}:\n"
        "    importlib.import_module(f'citekite.{name}')\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)

    assert (run.returncode, run.stdout) == (0, "watched\n"), run.stderr
