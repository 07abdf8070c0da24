"""Calling the command line in tests: commands, what they say when they fail, what they leave; a small network and photographs."""

import contextlib
import io
import traceback
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stochdeconv.cli import main

N_PHOTOS = 20
# Flags that make a collection and a run quick.
SMALL = ("--n-components", 4, "--layout-size", 8, "--batch-size", 8)
SHORT = ("-n", 2, "--n-steps", 2)


def make_photos(folder, n_photos, *, seed):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(n_photos):
        pixels = (rng.random((5, 5, 3)) * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((40, 36), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.png")


@dataclass(frozen=True)
class Called:
    """What a call of the command line left: its exit code, what it wrote, and what it ended with."""

    exit_code: int
    stdout: str
    stderr: str
    exception: BaseException | None

    @property
    def output(self):
        trace = "".join(traceback.format_exception(self.exception)) if self.exception else ""
        return f"{self.stdout}{self.stderr}{trace}"


def call(*words):
    out, err = io.StringIO(), io.StringIO()
    exit_code, exception = 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            exit_code, exception = end.code or 0, end
        except BaseException as error:
            exit_code, exception = 1, error
    return Called(exit_code, out.getvalue(), err.getvalue(), exception)


def succeed(*words):
    called = call(*words)
    assert called.exit_code == 0, called.output
    return called


def refuse(*words, code=1):
    """What one line says about a failure."""
    called = call(*words)
    assert called.exit_code == code, called.output
    assert isinstance(called.exception, SystemExit), called.exception
    assert called.stdout == ""
    lines = called.stderr.strip().splitlines()
    assert len(lines) == 1, called.stderr
    assert lines[0].startswith("error: ")
    return called.stderr


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
