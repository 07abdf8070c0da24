"""The arguments that several experiments take, each written once."""

import argparse
from pathlib import Path

ARGUMENTS = {
    "photo": (("photo",), {"type": Path}),
    "model": (("-m", "--model"), {"required": True, "help": "the network that makes the images"}),
    "model_of_statistics": (
        ("-m", "--model"),
        {"help": "the network, if it is not where the files of statistics say it was"},
    ),
    "layers": (("--layers",), {"required": True, "help": "names or numbers, with commas between them"}),
    "judge": (("--judge",), {"required": True, "help": "another network, which judges the images"}),
    "output": (("-o", "--output"), {"type": Path, "required": True}),
    "n_images": (("-n", "--n-images"), {"type": int}),
    "n_steps": (("--n-steps",), {"type": int}),
    "seed": (("--seed",), {"type": int}),
}


def argument_parser(description: str, *names: str, **defaults: int) -> argparse.ArgumentParser:
    """Make the parser of an experiment.

    Parameters
    ----------
    description : str
        The docstring of the script: its help, as it stands there.
    *names : str
        Keys of `ARGUMENTS`.
    **defaults : int
        Further keys, with their defaults.

    Returns
    -------
    argparse.ArgumentParser
        Arguments of the experiment alone are added to it.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in (*names, *defaults):
        flags, settings = ARGUMENTS[name]
        parser.add_argument(*flags, **settings, **({"default": defaults[name]} if name in defaults else {}))
    return parser
