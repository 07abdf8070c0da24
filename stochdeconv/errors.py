"""Errors a user can mend: each says what came, what was expected and what to do.

Messages name parameters as a call does, ``overwrite=True`` or ``size=``; the command line makes flags of them (`with_flags`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

# After a blank or a bracket, and not that of a call: neither in a file's name nor in `load_model(output=…)`. What follows is a value
# unless it is a blank or the end of a phrase.
_PARAMETER = re.compile(r"(?<![^\s(])(?<!\w\()(?P<name>[a-z]\w*)=(?P<value>True\b|(?=[^\s,;:.)]))?")


class StochDeconvError(Exception):
    """Root of every error this package raises on purpose; the command line prints it as one line."""

    def __str__(self) -> str:
        # KeyError would show the repr of its argument: a message should read as it was written.
        return str(self.args[0]) if self.args else ""


class InputError(StochDeconvError, ValueError):
    """An argument, image or folder that cannot be used."""


class SettingsError(InputError):
    """Settings that are out of range or contradict each other; the command line calls it wrong usage."""


class MissingInputError(StochDeconvError, FileNotFoundError):
    """A file or folder that is not there."""


class ModelError(StochDeconvError, ValueError):
    """A network that cannot be loaded, or is not the one the statistics were collected with."""


class MissingCodeError(ModelError):
    """A network file that needs Python code of its author, which has not been imported."""


class LayerNotFoundError(StochDeconvError, KeyError):
    """A layer or unit the network does not have."""


class ClassNotFoundError(StochDeconvError, KeyError):
    """A class name that is unknown, or fits several classes."""


class AmbiguousClassError(ClassNotFoundError):
    """A class name that fits several classes."""


class FileFormatError(StochDeconvError, ValueError):
    """A statistics file that is truncated, of an unknown version, or no statistics file at all."""


class ExistingOutputError(StochDeconvError, FileExistsError):
    """Output that is already there and would be overwritten."""


class DivergenceError(StochDeconvError, ArithmeticError):
    """An optimisation whose loss became NaN or infinite."""


def first_reason(error: BaseException) -> str:
    """Find what went wrong in another library's error, in one line; of Keras's, which first say where it was, what they say next.

    Parameters
    ----------
    error : BaseException
        Of Keras, TensorFlow, h5py, the system, …

    Returns
    -------
    str
        At most 300 characters.
    """
    text = re.sub(r"\x1b\[\d*m", "", str(error)).strip()
    wrapped = re.search(r"Exception encountered(?: when calling [^\n]*\n|: )\s*(\S[^\n]*)", text)
    lines = (wrapped.group(1) if wrapped else text).splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__


def with_flags(message: str, flags: Mapping[str, str]) -> str:
    """Say with the flags of a command what a message says with parameters.

    Parameters
    ----------
    message : str
        Parameters stand in it as in a call: ``overwrite=True``, ``size=64``, or ``size=`` without a value.
    flags : mapping of str to str
        Flags by the parameters they stand for; others stay as they are.

    Returns
    -------
    str
        With ``--overwrite``, ``--size 64``, ``--size``.
    """

    def as_flag(match: re.Match[str]) -> str:
        flag = flags.get(match["name"])
        if flag is None:
            return match[0]
        return f"{flag} " if match["value"] == "" else flag

    return _PARAMETER.sub(as_flag, message)


def closest(name: str, names: Iterable[str], *, n: int = 3) -> str:
    """Format the names nearest to a mistyped one, for an error message.

    Parameters
    ----------
    name : str
        What the user wrote.
    names : iterable of str
        What exists.
    n : int
        How many to name at most.

    Returns
    -------
    str
        ``"'a', 'b'"``, or an empty string where nothing is near.
    """
    lower, by_lower = name.lower(), {other.lower(): other for other in names}
    # Below 0.7 a skyscraper is a strainer. What somebody remembers as a beginning or an end is near however long the name, and in a
    # word of three letters one wrong letter is much.
    near = difflib.get_close_matches(lower, by_lower, n=n, cutoff=0.7)
    near += [other for other in by_lower if lower and (other.startswith(lower) or other.endswith(lower))]
    near += difflib.get_close_matches(lower, by_lower, n=n, cutoff=0.6) if len(lower) < 5 else []
    return ", ".join(f"'{by_lower[match]}'" for match in list(dict.fromkeys(near))[:n])
