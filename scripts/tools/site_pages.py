"""Parts of the site's pages that stand elsewhere already, as a Markdown extension: flags of the command line, notebooks, CONTRIBUTING.

A page says where they go by a comment on a line of its own, which GitHub does not show: ``<!-- generated: commands -->``,
``<!-- generated: notebook first_class -->`` or ``<!-- generated: contributing -->``. ``mkdocs.yml`` names this module;
``python -m zensical build`` finds it from the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from stochdeconv.cli import app

ROOT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"<!-- generated: (?P<part>\w+)(?: (?P<word>\w+))? -->")


class GeneratedParts(Preprocessor):
    """Put what is generated in the place of its marker."""

    def run(self, lines: list[str]) -> list[str]:
        """Replace marker lines.

        Parameters
        ----------
        lines : list of str
            A page of Markdown.

        Returns
        -------
        list of str

        Raises
        ------
        KeyError
            A marker of no part there is.
        """
        page = []
        for line in lines:
            marker = MARKER.fullmatch(line.strip())
            page += PARTS[marker["part"]](marker["word"]).splitlines() if marker else [line]
        return page


class SitePages(Extension):
    """The extension Markdown loads."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's name)
        """Register the preprocessor, before fenced code is taken out of the page."""
        md.preprocessors.register(GeneratedParts(md), "generated_parts", 40)


def makeExtension(**options: Any) -> SitePages:  # noqa: N802 (Markdown's name)
    """Make the extension."""
    return SitePages(**options)


def commands(_: str | None = None) -> str:
    """Write every command with its arguments and flags, as the command line itself has them.

    Returns
    -------
    str
        Markdown, a section a command.
    """
    group = typer.main.get_command(app)
    return "\n".join(_command(group.get_command(None, name)) for name in group.list_commands(None))


def _command(command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    flags = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    required = [f"{flag.opts[-1]} {flag.metavar}" for flag in flags if flag.required]
    usage = " ".join([command.name, *(_argument_name(argument) for argument in arguments), *required])
    rows = [(f"`{_argument_name(argument)}`", argument) for argument in arguments]
    rows += [(", ".join(f"`{name}`" for name in flag.opts) + _value(flag), flag) for flag in flags]
    table = [f"| {words} | {_cell(parameter.help)} | {_cell(_default(parameter))} |" for words, parameter in rows]
    head = ["| | | default |", "|---|---|---|"]
    return "\n".join([f"## {command.name}", "", command.help, "", f"    stochdeconv {usage}", "", *head, *table, ""])


def _argument_name(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _value(flag: Any) -> str:
    return f" `{flag.metavar}`" if flag.metavar else ""


def _default(parameter: Any) -> str:
    if parameter.required:
        return "*required*"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    is_empty = parameter.default is None or parameter.default is False or parameter.default == []
    return "" if is_empty else f"`{parameter.default}`"


def _cell(text: str | None) -> str:
    # Upright bars would end the cell, inside code too; angle brackets would be tags.
    return (text or "").replace("|", "\\|").replace("<", "&lt;")


def notebook(name: str) -> str:
    """Write a notebook as a page: its text, and its code in fences.

    Parameters
    ----------
    name : str
        Stem of the file in ``docs/notebooks``.

    Returns
    -------
    str
        Markdown. Links between notebooks lead to their pages.
    """
    cells = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())["cells"]
    text = "\n\n".join(_notebook_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells)
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", text)


def _notebook_cell(kind: str, source: str) -> str:
    return f"```python\n{source}\n```" if kind == "code" else source


def contributing(_: str | None = None) -> str:
    """Write the project's ``CONTRIBUTING.md`` as a page.

    Returns
    -------
    str
        Markdown, its links as seen from ``docs``.
    """
    return (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "](")


PARTS: dict[str, Callable[[Any], str]] = {"commands": commands, "notebook": notebook, "contributing": contributing}
