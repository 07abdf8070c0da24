"""Docstrings as the site shows them: names become links, defaults are those of the signature. An extension of Griffe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python"
# `samplers.sample_targets`, `generate`: what a docstring calls by its last one or two names.
NAME = re.compile(r"(?<![`\[])`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)`(?![`\]])")


class Docstrings(griffe.Extension):
    """What mkdocstrings does not do by itself."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Link names and mend defaults in every docstring of the package.

        Parameters
        ----------
        pkg : griffe.Module
            The package, loaded whole; stubs are merged.
        """
        targets = link_targets(pkg)
        for item in _objects(pkg):
            if item.docstring is None:
                continue
            item.docstring.value = NAME.sub(
                lambda match, own=item.path: _linked(match, targets, own), item.docstring.value
            )
            if item.is_function or item.is_class:
                _mend_defaults(item)


def link_targets(package: griffe.Module) -> dict[str, str]:
    """List what the reference documents, by the names that docstrings use.

    Parameters
    ----------
    package : griffe.Module

    Returns
    -------
    dict of str to str
        ``MODULE.NAME``, and for what the pages name itself ``NAME`` -> identifier of its place on the site.
    """
    written = [
        name for page in sorted(PAGES.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]
    targets = {}
    for identifier in written:
        item = package[identifier.removeprefix(f"{package.name}.")]
        item = item.final_target if item.is_alias else item
        targets[_last_two(item.path)] = identifier
        if item.is_module:
            for member in item.members.values():
                if member.is_public and (member.is_function or member.is_class):
                    targets[f"{item.name}.{member.name}"] = f"{identifier}.{member.name}"
        elif item.is_class:
            targets[item.name] = identifier
    return targets


def _last_two(path: str) -> str:
    return ".".join(path.split(".")[-2:])


def _linked(match: re.Match, targets: dict[str, str], own_path: str) -> str:
    name = match[1]
    if name not in targets or own_path.endswith(f".{name}"):
        return match[0]
    return f"[`{name}`][{targets[name]}]"


def _objects(item: griffe.Object) -> Iterator[griffe.Object]:
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _mend_defaults(item: griffe.Object) -> None:
    # Griffe takes the first of {"a", "b"} for the default, as numpydoc once had it; here the signature has defaults, and it alone.
    for section in item.docstring.parsed:
        if section.kind is griffe.DocstringSectionKind.parameters:
            for parameter in section.value:
                if item.parameters and parameter.name in item.parameters:
                    parameter.value = item.parameters[parameter.name].default
