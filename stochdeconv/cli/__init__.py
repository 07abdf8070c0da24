"""The command line: the only place that prints or exits."""

from __future__ import annotations

import errno
import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from stochdeconv.cli import terminal
from stochdeconv.cli.imports import takes_networks, with_imports
from stochdeconv.errors import StochDeconvError

# Command -> (its module, what it does). A module is imported when its command is called: `--help` waits for none of them.
COMMANDS = {
    "demo": ("showing", "Do the main job on what ships with the package; ends with report.html."),
    "collect": ("collecting", "Measure the joint statistics of a class's activations."),
    "merge": ("collecting", "Put shards of a collection together: the same as one pass."),
    "inspect": ("collecting", "Show what a file of statistics holds."),
    "models": ("listing", "List the networks that can be had by name, how large they are and which are here already."),
    "layers": (
        "collecting",
        "List a network's layers, numbered from 0, the input; * marks what collect measures; NAME_linear is a layer before its activation.",
    ),
    "generate": ("imaging", "Make varied images of a class from its statistics."),
    "maximize": ("imaging", "Maximise a class neuron, or any unit: the baseline."),
    "saliency": ("seeing", "Show which pixels a class or unit of a network depends on."),
    "refine": ("changing", "Make a photograph more like its class, and keep it on the way."),
    "morph": ("changing", "Turn a photograph, or one class, into another class, as an animation."),
    "dream": ("dreaming", "Amplify what a layer sees in a photograph or in noise: DeepDream."),
    "invert": ("changing", "Find the picture a layer's activations stand for: feature inversion."),
    "sweep": ("dreaming", "Dream at many layers for many steps, and ask what is recognised before and after."),
    "measure": ("measure", "Measure photographs once, for comparisons where the pictures themselves cannot be given."),
    "compare": ("comparing", "Tell how realistic and how varied images are: metrics.json and report.html."),
}


class Command(TyperCommand):
    """A command in whose messages parameters are flags."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with terminal.speaking_of_flags(self):
            return super().invoke(ctx)


class Commands(TyperGroup):
    """Commands whose expected failures are one line on stderr and an exit code, never a traceback."""

    _listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load a command; for the list of all of them its name and help are enough."""
        if cmd_name not in COMMANDS:
            return None
        module, summary = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=summary)
        single = typer.Typer(add_completion=False)
        function = getattr(importlib.import_module(f"{__name__}.{module}"), cmd_name)
        single.command(cmd_name, cls=Command, help=summary)(
            with_imports(function) if takes_networks(function) else function
        )
        return typer.main.get_command(single)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the list of commands."""
        self._listing = True
        super().format_help(ctx, formatter)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with terminal.plain_warnings():
                return super().invoke(ctx)
        except StochDeconvError as error:
            terminal.fail(str(error))
        except KeyboardInterrupt:
            terminal.fail("interrupted", code=terminal.EXIT_INTERRUPTED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: nobody to tell
                raise
            terminal.fail(terminal.describe_os_error(error))


app = typer.Typer(
    name="stochdeconv",
    cls=Commands,
    help="Varied, realistic images of a class from one classifier: sample its activations, then find images that have them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from stochdeconv import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take what goes before the command."""


def main() -> None:
    """Run the command line."""
    app()
