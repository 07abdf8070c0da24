"""The command line: the only place that prints or exits."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from stochdeconv import __version__
from stochdeconv.cli import terminal
from stochdeconv.cli.flags import flags_of
from stochdeconv.errors import SettingsError, StochDeconvError

# Command -> what it does, in the order of the work. Each is a function of its name in a module of its name, imported when it is called:
# `--help` waits for none of them.
COMMANDS = {
    "demo": "Do the main job on what ships with the package; ends with report.html.",
    "collect": "Measure the joint statistics of a class's activations.",
    "merge": "Put shards of a collection together: the same as one pass.",
    "inspect": "Show what a file of statistics holds.",
    "models": "List the networks that can be had by name, how large they are and which are here already.",
    "layers": "List a network's layers, numbered from 0, the input; * marks what collect measures; NAME_linear is a layer before its "
    "activation.",
    "generate": "Make varied images of a class from its statistics.",
    "maximize": "Maximise a class neuron, or any unit: the baseline.",
    "saliency": "Show which pixels a class or unit of a network depends on.",
    "refine": "Make a photograph more like its class, and keep it on the way.",
    "morph": "Turn a photograph, or one class, into another class, as an animation.",
    "dream": "Amplify what a layer sees in a photograph or in noise: DeepDream.",
    "invert": "Find the picture a layer's activations stand for: feature inversion.",
    "sweep": "Dream at many layers for many steps, and ask what is recognised before and after.",
    "measure": "Measure photographs once, for comparisons where the pictures themselves cannot be given.",
    "compare": "Tell how realistic and how varied images are: metrics.json and report.html.",
}

app = App(
    name="stochdeconv",
    help="Varied, realistic images of a class from one classifier: sample its activations, then find images that have them.",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _number, (_name, _summary) in enumerate(COMMANDS.items()):
    app.command(f"{__name__}.{_name}:{_name}", name=_name, help=_summary, sort_key=_number)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code, never a traceback."""
    words = sys.argv[1:] if words is None else list(words)
    if not words:
        app.help_print()
        sys.exit(terminal.EXIT_USAGE)
    try:
        with terminal.plain_warnings(), terminal.speaking_of_flags(_flags_of(words)):
            app(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        terminal.fail(terminal.describe_usage_error(error), code=terminal.EXIT_USAGE)
    except SettingsError as error:
        terminal.fail(str(error), code=terminal.EXIT_USAGE)
    except StochDeconvError as error:
        terminal.fail(str(error))
    except KeyboardInterrupt:
        terminal.fail("interrupted", code=terminal.EXIT_INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has gone: nobody to tell, now or when Python flushes
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(terminal.EXIT_FAILURE)
        terminal.fail(terminal.describe_os_error(error))
    except Exception as error:
        if not terminal.is_out_of_memory(error):
            raise
        terminal.fail("there is not enough memory; a smaller --batch-size, --size, --tile-size or -n asks for less")


def _flags_of(words: Sequence[str]) -> dict[str, str]:
    """Tell the flags of the command that is called by the parameters they stand for."""
    name = next((word for word in words if word in COMMANDS), None)
    function = None if name is None else app[name].default_command
    return {} if function is None else flags_of(function)
