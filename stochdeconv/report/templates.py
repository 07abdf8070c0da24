"""Fill the templates of the pages; whatever comes from outside is escaped."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from stochdeconv.report.verdict import number, percent


def fill(template: str, **values: object) -> str:
    """Fill one of the templates beside this file.

    Parameters
    ----------
    template : str
        ``report.html.j2`` or ``atlas.html.j2``.
    **values
        What the template names; one that is missing is an error.

    Returns
    -------
    str
        HTML, complete in itself: no script, no request to anywhere.
    """
    environment = Environment(
        loader=PackageLoader("stochdeconv.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment.get_template(template).render(**values)
