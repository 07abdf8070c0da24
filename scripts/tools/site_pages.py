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

from cyclopts.argument import Argument
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

from stochdeconv.cli import COMMANDS, app
from stochdeconv.cli.flags import written_default

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
    return "\n".join(_command(name, summary) for name, summary in COMMANDS.items())


def _command(name: str, summary: str) -> str:
    parameters = [argument for argument in app[name].assemble_argument_collection() if argument.names != ("*",)]
    operands = [argument for argument in parameters if not argument.names[0].startswith("-")]
    flags = [argument for argument in parameters if argument.names[0].startswith("-")]
    required = [f"{flag.names[-1]} {flag.parameter.metavar}" for flag in flags if flag.required]
    usage = " ".join([name, *map(_operand_name, operands), *required])
    rows = [(f"`{_operand_name(operand)}`", operand) for operand in operands]
    rows += [(", ".join(f"`{word}`" for word in flag.names) + _value(flag), flag) for flag in flags]
    table = [
        f"| {words} | {_cell(argument.parameter.help)} | {_cell(_default(argument))} |" for words, argument in rows
    ]
    head = ["| | | default |", "|---|---|---|"]
    return "\n".join([f"## {name}", "", summary, "", f"    stochdeconv {usage}", "", *head, *table, ""])


def _operand_name(operand: Argument) -> str:
    name = operand.parameter.metavar or operand.names[0]
    return name if operand.required else f"[{name}]"


def _value(flag: Argument) -> str:
    return f" `{flag.parameter.metavar}`" if flag.parameter.metavar else ""


def _default(argument: Argument) -> str:
    if argument.required:
        return "*required*"
    text = written_default(argument.field_info.default)
    return "" if text is None else f"`{text}`"


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
