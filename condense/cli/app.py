"""The application: which commands there are, in the order in which they are used."""

import io
import sys
from typing import Annotated

import typer

from condense.cli.analyze import analyze
from condense.cli.bench import bench
from condense.cli.convert import convert
from condense.cli.demo import demo
from condense.cli.env import env
from condense.cli.export import export
from condense.cli.finetune import finetune
from condense.cli.options import command
from condense.cli.report import report
from condense.cli.train import train
from condense.cli.zoo import zoo

app = typer.Typer(
    name="condense",
    help="Condense a trained CNN: from the checkpoint to a proven, exported, shallower network.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

for function in (analyze, convert, finetune, report, export, train, zoo, demo, env):
    command(app, function)
app.add_typer(bench, name="bench")


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a dash shows ? for it
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"condense {version('condense-cnn')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    pass
