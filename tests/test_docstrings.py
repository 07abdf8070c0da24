"""Docstrings with sections are whole: every parameter is there, and what comes back."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stochdeconv"
MODULES = sorted(PACKAGE.rglob("*.py"))
SECTION = re.compile(r"^(Parameters|Returns|Raises|Yields|Notes|Examples|Attributes|Warns)\n-{4,}\n", re.MULTILINE)
# A header that was wrapped into the text around it.
LOST = re.compile(r"[^\s-] *-{4,}|-{4,} *[^\s-]")


def sections_of(docstring):
    """Section -> its lines."""
    _, *parts = SECTION.split(docstring)
    return {title: text.splitlines() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def parameters_of(function, overloads=()):
    """Names in a call: a loss is called with a layer in place of the values it is a function of, or without where that is fixed."""
    names = []
    for arguments in (function.args, *(overload.args for overload in overloads)):
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        names += [argument.arg for argument in every if argument is not None and argument.arg not in ("self", "cls")]
    if overloads and function.args.kwarg is not None:
        names.remove(function.args.kwarg.arg)  # spelt out by the overloads
    for decorator in map(ast.unparse, function.decorator_list):
        if decorator.partition("(")[0] == "loss":
            names = names[1:] if "layer=" in decorator else ["layer", *names[1:]]
    return names


def faults(function, overloads=()):
    docstring = ast.get_docstring(function)
    if docstring is None or function.name.startswith("_"):
        return
    if LOST.search(docstring):
        yield "a section's header is in the text"
    sections = sections_of(docstring)
    if not sections:
        return
    names = parameters_of(function, overloads)
    described = {
        name.strip("* ")
        for line in sections.get("Parameters", ())
        if line[:1].strip()
        for name in line.split(" : ")[0].split(",")
    }
    # "As in `other`" stands for the parameters of another function.
    if "arguments as" not in docstring:
        yield from (f"parameter '{name}' is not described" for name in names if name not in described)
    yield from (f"there is no parameter '{name}'" for name in described if name not in names)
    returns = function.returns is not None and ast.unparse(function.returns) != "None"
    if returns and not sections.keys() & {"Returns", "Yields"}:
        yield "what is returned is not described"
    errors = {
        ast.unparse(part.exc.func) for part in ast.walk(function) if isinstance(part, ast.Raise) and is_call(part.exc)
    }
    if errors and "Raises" not in sections:
        yield f"{', '.join(sorted(errors))} is raised and not described"


def is_call(raised):
    return isinstance(raised, ast.Call)


def test_a_fault_is_seen():
    source = '''
def whole(a, *, b=1, **c) -> int:
    """Do.

    Parameters
    ----------
    a, b : int
    **c
        More.

    Returns
    -------
    int
    """

def broken(a, b) -> int:
    """Do.

    Parameters
    ----------
    a : int
    d : int

    Notes ----- Source: somebody.
    """
    raise ValueError(f"{a} is none")
'''
    whole, broken = ast.parse(source).body
    assert list(faults(whole)) == []
    assert [fault.split()[0] for fault in faults(broken)] == ["a", "parameter", "there", "there", "what", "ValueError"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sections_are_whole(path):
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    overloads = {node.name: [] for node in functions}
    for node in functions:
        if "overload" in map(ast.unparse, node.decorator_list):
            overloads[node.name].append(node)
    assert [
        f"{node.name}, line {node.lineno}: {fault}"
        for node in functions
        for fault in faults(node, overloads[node.name])
    ] == []
