"""What all commands share: progress on stderr, one line for an error, networks by their words."""

from __future__ import annotations

import errno
import gc
import importlib
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stochdeconv.errors import MissingCodeError, ModelError, StochDeconvError, closest, with_flags
from stochdeconv.images import FACES
from stochdeconv.interruption import interrupts_held

if TYPE_CHECKING:
    from cyclopts import CycloptsError

    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import Step

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def import_keras() -> None:
    """Import Keras and its backend without the pages that TensorFlow writes meanwhile."""
    if "stochdeconv.backend" in sys.modules:
        return
    # Their million objects stay until the end: to look for garbage among them takes a second now, and another at exit.
    gc.disable()
    try:
        with interrupts_held():
            _import_quietly("stochdeconv.backend")
        gc.freeze()
    finally:
        gc.enable()


def _import_quietly(module: str) -> None:
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":  # somebody wants to see them
        importlib.import_module(module)
        return
    # What is logged before TensorFlow has read the level goes to file descriptor 2 whatever the level says.
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            importlib.import_module(module)
        except Exception:
            sink.seek(0)
            os.write(kept, sink.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that there is too little memory, the device's or NumPy's."""
    backend = sys.modules.get("stochdeconv.backend")  # where nothing computes there is none
    return isinstance(error, MemoryError) or (backend is not None and backend.is_out_of_memory(error))


def load_model(word: str, **options: Any) -> ImageModel:
    """Load a network, with those options that were given."""
    import_keras()
    from stochdeconv.networks.image_model import load_model as load

    try:
        return load(word, **{name: value for name, value in options.items() if value is not None})
    except MissingCodeError as error:
        raise ModelError(f"{error}; --import MODULE imports one") from error


def check_judge_word(word: str) -> None:
    """Refuse a misspelt word for the face detector, before any network is loaded."""
    if word != FACES and closest(word, [FACES]):
        raise ModelError(
            f"there is no judge '{word}'; expected '{FACES}', a face detector, or a network as -m takes it"
        )


def load_judge(word: str, **options: Any) -> ImageModel | str:
    """Load the network that judges; the word for the face detector stays that word."""
    check_judge_word(word)
    return word if word == FACES else load_model(word, **options)


def _is_not_about_retracing(record: logging.LogRecord) -> bool:
    # A program for each layer and size is meant; TensorFlow counts them by the line they are made in.
    return "triggered tf.function retracing" not in record.getMessage()


def say(message: str) -> None:
    """Write a line to stderr."""
    print(message, file=sys.stderr)


def fail(message: str, *, code: int = EXIT_FAILURE) -> NoReturn:
    """End the command with one line on stderr."""
    say(f"{'stopped' if code == EXIT_INTERRUPTED else 'error'}: {' '.join(message.split())}")
    sys.exit(code)


def describe_usage_error(error: CycloptsError) -> str:
    """Say in one line what is wrong with the words of a call."""
    message = " ".join(str(error).split())
    return f"{message if message.endswith('...') else message.removesuffix('.')}; --help lists what there is"


def describe_os_error(error: OSError) -> str:
    """Say in one line what the system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" at '{error.filename}'" if error.filename else ""
        return f"the disk is full{where}; free some space and run the command again"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"'{error.filename}' is a file where a folder is needed; choose another place with -o"
    where = f": '{error.filename}'" if error.filename else ""
    return f"{error.strerror or error}{where}"


def require_writable(path: Path, *, flag: str = "-o") -> None:
    """Fail before the work where its result could not be written; `flag` names another place."""
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    folder = there.parent if there == path.absolute() and there.is_file() else there
    if not folder.is_dir():
        fail(f"'{folder}' is a file, and '{path}' is to go into it; choose another place with {flag}")
    try:
        # Some places refuse whatever their permissions say: by writing alone it is known.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        fail(f"cannot write to '{folder}', where '{path}' is to go; choose another place with {flag}")


# Of the command that runs, by the parameters they stand for.
_flags: ContextVar[Mapping[str, str]] = ContextVar("flags")


@contextmanager
def speaking_of_flags(flags: Mapping[str, str]) -> Iterator[None]:
    """Let messages of the library, which name parameters, name the flags that stand for them."""
    token = _flags.set(flags)
    try:
        yield
    except StochDeconvError as error:
        error.args = (in_flags(str(error)), *error.args[1:])
        raise
    finally:
        _flags.reset(token)


def in_flags(message: str) -> str:
    """Make of a library's message one about the flags of the command that runs."""
    return with_flags(message, _flags.get({}))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show our own warnings as one line each; those of other libraries mean nothing to who runs a command."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"warning: {in_flags(str(message))}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"stochdeconv\b")
        warnings.showwarning = show
        logging.getLogger("tensorflow").addFilter(_is_not_about_retracing)
        yield


@contextmanager
def stopping_once(message: str = "") -> Iterator[None]:
    """Let the first Ctrl-C end the work, and those after it wait until what was finished is saved; say so where that takes time."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # started where nobody listens
        yield
        return

    def stop(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if message:
            say(message)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class ProgressBar:
    """A bar on stderr with the time left and, below it, the loss of each term; nothing where nobody watches."""

    def __init__(self, description: str, *, quiet: bool):
        self._description = description
        self._bar = None if quiet or not sys.stderr.isatty() else _rich_bar(description)

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_progress(self, n_made: int, total: int, message: str) -> None:
        """Show what the collector and the comparison report."""
        self._show(n_made, total, message)

    def on_step(self, step: Step) -> None:
        """Show a step of an optimisation."""
        if self._bar is not None:
            self._show(step.step, step.n_steps, str(step))

    def _show(self, n_made: int, total: int, message: str) -> None:
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=n_made, total=total, message=message)


def _rich_bar(description: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Bar(Progress):
        def get_renderables(self):
            yield from super().get_renderables()
            yield from (Text(str(task.fields["message"]), style="dim") for task in self.tasks)

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(description, total=None, message="")
    return bar


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of rows, for people and for ``awk`` alike."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
