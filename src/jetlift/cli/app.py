"""The Typer application that the commands register with."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="jetlift",
    help="Foundation models from their weights to a measured result on an NVIDIA Jetson.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        import jetlift

        typer.echo(jetlift.__version__)
        raise typer.Exit
    if context.invoked_subcommand not in (None, "doctor"):  # the doctor only shows
        from jetlift.cli.clocks import recover_clocks

        recover_clocks()
