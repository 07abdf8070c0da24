"""Fill the templates of the pages; whatever comes from outside is escaped."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from stochdeconv.evaluation.report.verdict import number, percent

_PACKAGE = "stochdeconv.evaluation.report"


def fill(template: str, *, package: str = _PACKAGE, **values: object) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        Name of its file.
    package : str
        Where that lies; the style sheet of all pages lies here.
    **values
        What the template names; one that is missing is an error.

    Returns
    -------
    str
        HTML, complete in itself: no script, no request to anywhere.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader(_PACKAGE, ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment.get_template(template).render(**values)
