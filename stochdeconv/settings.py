"""Settings: keywords in Python, flags at the command line."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from stochdeconv.errors import InputError, SettingsError, closest

Kind = TypeVar("Kind", bound="Settings")
Function = TypeVar("Function", bound=Callable[..., Any])

#: Default of a field that depends on others: open in what a caller makes, so that `dataclasses.replace` leaves it open, and settled in
#: what a method reads, see `Settings.settled`.
OPEN: Any = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the result of a function depends on beside what it is given to work on.

    Raises
    ------
    SettingsError
        A number is out of range, or two settings contradict each other.
    InputError
        A name is unknown, or a text is not of the form it has to be.
    """

    #: Fields that count something.
    counts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Iterator):  # can be read once, and is looked at several times
                self._fill(**{field.name: list(value)})
            if value is None and field.default is not None and "None" not in str(field.type):
                raise SettingsError(f"{field.name}= is by default {field.default!r}, and cannot be None")
            if str(field.type) == "bool" and not isinstance(value, bool):
                raise SettingsError(f"{field.name}= is True or False; got {value!r}")
        settings = copy.copy(self)
        settings._settle()
        self._fill(_settled=settings)

    def settled(self) -> Self:
        """Return the settings with what was left open filled in: what a method reads."""
        return vars(self).get("_settled", self)

    def _settle(self) -> None:
        """Fill in what was left open, and refuse what cannot be; of a copy of what the caller made."""
        for name in self.counts:
            check_count(name, getattr(self, name, None))

    def _fill(self, **values: object) -> None:
        """Set fields while settings are made or settled."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def record(self, *left_out: str, **settled: object) -> dict[str, Any]:
        """Return the settings as run.json holds them: plain values, pictures and statistics by their source.

        Parameters
        ----------
        *left_out : str
            Fields that are recorded elsewhere; the seed is.
        **settled : object
            What the run has found out: in place of a field, or beside them.

        Returns
        -------
        dict of str to object
        """
        names = [field.name for field in fields(self) if field.name not in {"seed", *left_out}]
        return {
            name: _plain(value) for name, value in ({name: getattr(self, name) for name in names} | settled).items()
        }


def check_count(name: str, value: object, *, at_least: int = 1) -> None:
    """Raise SettingsError unless a setting is a whole number from `at_least` on, or None: left open."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        raise SettingsError(f"{name}= is a whole number of at least {at_least}; got {value!r}")


def check_number(
    name: str, value: object, *, at_least: float | None = None, above: float | None = None, below: float | None = None
) -> None:
    """Raise SettingsError unless a setting is a finite number within its limits, or None: left open."""
    if value is None:
        return
    limits = {"at least": at_least, "above": above, "below": below}
    text = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.number)
        or not math.isfinite(value)
        or (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        raise SettingsError(f"{name}= is a finite number{f', {text}' if text else ''}; got {value!r}")


# Operands, and of which class they are: this module lies below both.
_OPERANDS = {
    "model": ("ImageModel", "a network, as load_model returns it"),
    "judge": ("ImageModel", "a network, as load_model returns it"),
    "statistics": ("ClassStatistics", "statistics, as load_statistics and collect return them"),
}


def read_settings(kind: type[Kind], settings: Kind | None, keywords: Mapping[str, Any], **operands: object) -> Kind:
    """Take the settings of a method as they came, as an object or as keywords, and settle them; refuse operands of another class.

    Parameters
    ----------
    kind : type
        Class of the settings.
    settings : Settings or None
    keywords : mapping of str to object
        Fields of `kind`.
    **operands : object
        ``model``, ``judge``, ``statistics``: a name or a path is what the command line takes.

    Returns
    -------
    Settings

    Raises
    ------
    InputError
        An operand is something else.
    SettingsError
        Both were given.
    TypeError
        There is no such keyword.
    """
    for name, value in operands.items():
        class_name, expected = _OPERANDS[name]
        if class_name not in {base.__name__ for base in type(value).__mro__}:
            came = f"the text {value!r}" if isinstance(value, str) else type(value).__name__
            raise InputError(f"{name}= is {expected}; got {came}")
    if settings is not None and not isinstance(settings, kind):
        raise SettingsError(f"settings are a {kind.__name__}, or its fields as keywords; got {type(settings).__name__}")
    names = [field.name for field in fields(kind)]
    for unknown in (name for name in keywords if name not in names):
        near = closest(unknown, names)
        raise TypeError(
            f"there is no keyword '{unknown}'{f'; closest: {near}' if near else ''}; there are {', '.join(names)}"
        )
    if settings is None:
        return kind(**keywords).settled()
    if keywords:
        raise SettingsError(f"give either settings or keywords ({', '.join(keywords)}), not both")
    return settings.settled()


def takes(kind: type[Settings]) -> Callable[[Function], Function]:
    """Show the fields of a settings class as the keywords of a function, to ``help`` and whatever completes a call.

    Parameters
    ----------
    kind : type
        What the function reads its ``**keywords`` into, see `read_settings`.

    Returns
    -------
    callable
        A decorator; what the function does is not changed.
    """
    return functools.partial(_with_signature, kind)


def _with_signature(kind: type[Settings], function: Function) -> Function:
    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(kind)
    ]
    function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
    return function


def source_of(value: object) -> str | None:
    """Name a picture or statistics in a record: by the path, ``"in memory"`` without one, None for none."""
    if value is None:
        return None
    return str(value) if isinstance(value, str | PathLike) else "in memory"


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return source_of(value)
