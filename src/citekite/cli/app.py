"""The commands, gathered."""

from __future__ import annotations

from typing import Annotated

import typer

from citekite import __version__
from citekite.cli import ask, inspect, mcp, moving, serve, sync, tune, usage
from citekite.cli.evaluate import eval_app
from citekite.cli.keys import keys_app

app = typer.Typer(
    name="citekite",
    help="Cited answers from your own documents, on Milvus and any OpenAI-style API.",
    epilog=(
        "What `citekite config` lists is an option, a variable CITEKITE_<NAME>, or a line of citekite.toml. "
        "Exit status: 0 done, 1 a check of doctor failed, 2 a setting or argument, 3 a source or one of its files, "
        "4 Milvus, 5 the model endpoint, 6 an optional dependency is missing, 7 a server refused the key, "
        "8 a server failed, 9 a Ray cluster failed, 130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"citekite {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


for command in (sync.sync, ask.ask, ask.search, ask.chat):
    app.command()(command)
for command in (inspect.documents, inspect.status, sync.remove, sync.reindex):
    app.command(rich_help_panel="Collection")(command)
for command in (moving.copy, moving.export, moving.import_, moving.backup, moving.restore):
    app.command(command.__name__.rstrip("_"), rich_help_panel="Move and keep")(command)
for command in (serve.serve, mcp.mcp):
    app.command(rich_help_panel="Serve")(command)
app.command(rich_help_panel="Serve")(usage.usage)
app.add_typer(keys_app, name="keys", rich_help_panel="Serve")
eval_app.command()(tune.questions)
app.add_typer(eval_app, name="eval", rich_help_panel="Quality")
app.command(rich_help_panel="Quality")(tune.tune)
for command in (inspect.config, inspect.doctor):
    app.command(rich_help_panel="Setup")(command)
