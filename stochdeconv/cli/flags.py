"""From functions and settings classes to flags: their names, types, defaults and docstrings are the command line's."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

# Names that are not the field's with dashes, and short ones.
_NAMES = {"class_name": "--class", "imports": "--import", "as_json": "--json"}
_SHORT = {"n_images": "-n", "model": "-m", "output": "-o", "quiet": "-q"}
# Types whose values are words.
_PLAIN = (str, int, float, bool, Path, types.NoneType)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function: a parameter that is a settings class becomes a flag for each of its fields.

    Parameters
    ----------
    function : callable
        Positional-only parameters are arguments, keyword-only ones flags, all annotated.

    Returns
    -------
    callable
        The function, with a signature that Cyclopts reads.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters = [_parameter(parameter) for parameter in signature.parameters.values()]
    vars(function)["__signature__"] = signature.replace(parameters=parameters)  # what `inspect` reads
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    function.__kwdefaults__ = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is not inspect.Parameter.empty
    }
    return function


def flags_of(function: Callable[..., None]) -> dict[str, str]:
    """Tell the flags of a command, by the parameters and fields they stand for."""
    names = []
    for parameter in inspect.signature(function).parameters.values():
        (kind, *_) = typing.get_args(parameter.annotation) or (parameter.annotation,)
        if is_dataclass(kind):
            names += [field.name for field in fields(kind)]
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return {name: _NAMES.get(name) or f"--{name.replace('_', '-')}" for name in names}


def default(function: Callable, name: str) -> Any:
    """Read a flag's default where it stands: in the signature of the function behind the command."""
    return inspect.signature(function).parameters[name].default


def _parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
        flags = _as_flags(parameter.annotation)
        is_optional = all(field.default is not MISSING for field in fields(flags))
        default = flags() if is_optional else parameter.default
        return parameter.replace(annotation=Annotated[flags, Parameter(name="*")], default=default)
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        written = [part.metavar for part in getattr(parameter.annotation, "__metadata__", ()) if part.metavar]
        # An operand has no flag before it: help and errors name it by how it is written, in capitals.
        own = Parameter(name=written or None, converter=_converter(parameter.annotation))
        return parameter.replace(annotation=Annotated[parameter.annotation, own])
    return parameter.replace(
        annotation=Annotated[
            parameter.annotation, _named(parameter.name, parameter.annotation), Parameter(show_default=written_default)
        ]
    )


def _as_flags(settings: type) -> Any:
    """Derive a class whose fields Cyclopts reads as flags: of plain types, with help from the docstrings."""
    hints, described = typing.get_type_hints(settings), read_fields(settings)
    annotations, defaults = {}, {}
    for field in fields(settings):
        metavar, text = described[field.name]
        hint = _plain(hints[field.name])
        own = Parameter(help=text, metavar=metavar, show_default=written_default)
        annotations[field.name] = Annotated[hint, _named(field.name, hint), own]
        if field.default is not MISSING:
            defaults[field.name] = field.default
    body = {"__annotations__": annotations, "__doc__": settings.__doc__, "__module__": __name__, **defaults}
    return dataclass(frozen=True, kw_only=True)(type(settings.__name__, (settings,), body))


def _named(name: str, hint: Any) -> Parameter:
    # One flag, one way: what is off by default is not turned off; said twice, the last counts.
    return Parameter(
        name=_NAMES.get(name),
        alias=_SHORT.get(name),
        negative="",
        negative_iterable="",
        allow_repeating=True,
        converter=_converter(hint),
    )


def _converter(hint: Any) -> Callable | None:
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    if typing.get_origin(bare) is list:
        return None  # each is converted alone
    kinds = (bare, *typing.get_args(bare))
    return next((convert for kind, convert in _CONVERTERS.items() if kind in kinds), None)


def _whole_number(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number as such: Cyclopts rounds others."""
    word = tokens[-1].value
    if not re.fullmatch(r"[+-]?\d+", word):
        raise ValueError(f"expected a whole number; got '{word}'")
    return int(word)


def _path(_: Any, tokens: Sequence[Token]) -> Path:
    """Read a path; an empty word, as of a variable that is not set, is none."""
    if not tokens[-1].value:
        raise ValueError("expected a path; got an empty word")
    return Path(tokens[-1].value)


_CONVERTERS = {int: _whole_number, Path: _path}


def _plain(hint: Any) -> Any:
    """Leave out what cannot be written as words: arrays, statistics, sequences that a text lists with commas."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    plain = [member for member in members if member in _PLAIN]
    if not plain:
        return list[str]  # given several times
    if str in plain:
        return str | None if types.NoneType in plain else str
    return typing.Union[tuple(plain)]  # noqa: UP007


def written_default(default: Any) -> str | None:
    """Write a default as users would; None where it says nothing."""
    if default is None or default is False or default is inspect.Parameter.empty or default in ("", ()):
        return None
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def read_fields(settings: type) -> dict[str, tuple[str | None, str]]:
    """Read what the docstring of a class and of those it derives from say of the fields.

    Parameters
    ----------
    settings : type
        Its docstrings have a section Attributes in numpydoc's form. What users write for a value stands in double backticks beside the
        type, or the type lists the choices.

    Returns
    -------
    dict of str to (str or None, str)
        By field: how its value is written, and what it is for.
    """
    described: dict[str, tuple[str | None, str]] = {}
    for base in reversed(settings.__mro__):
        described |= _read_section(base.__doc__, "Attributes")
    return described


def described(function: Callable, name: str) -> str:
    """Read a flag's help where it stands: in the docstring of the function behind the command."""
    _, text = _read_section(function.__doc__, "Parameters")[name]
    return text


def _read_section(docstring: str | None, title: str) -> dict[str, tuple[str | None, str]]:
    section = re.search(rf"{title}\n-+\n(.*?)(?=\n\n\w[^\n]*\n-+\n|\Z)", inspect.cleandoc(docstring or ""), re.DOTALL)
    entries = re.findall(
        r"^(\w+) : ([^\n]+)\n((?:(?:    [^\n]*)?(?:\n|\Z))*)", section[1] if section else "", re.MULTILINE
    )
    return {name: (_metavar(kind), _prose(text)) for name, kind, text in entries}


def _metavar(kind: str) -> str | None:
    written = re.search(r"``(.+?)``", kind)
    choices = re.search(r"\{(.+?)\}", kind)
    if written:
        return written[1]
    return "|".join(word.strip().strip('"') for word in choices[1].split(",")) if choices else None


def _prose(text: str) -> str:
    # Where to read on in the library is no help here.
    text = re.sub(r",? \(?see `[\w.]+`\)?", "", " ".join(text.split()))
    return text.replace("`", "")
