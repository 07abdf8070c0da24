"""stochdeconv compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from stochdeconv.cli import terminal
from stochdeconv.cli.flags import command, default, described
from stochdeconv.cli.running import NetworkFlags, OutputFlags
from stochdeconv.cli.terminal import ProgressBar
from stochdeconv.errors import SettingsError
from stochdeconv.evaluation import REAL
from stochdeconv.evaluation.compare import METRICS, REPORT, check_judge, read_entries
from stochdeconv.evaluation.compare import compare as compare_images
from stochdeconv.images import FACES
from stochdeconv.settings import check_count

# What the table on stdout shows of metrics.json.
_HEADLINES = ("judge_top1", "judge_top5", "kid", "coverage", "pairwise_distance")
_FACE_HEADLINES = ("with_face", "mean_faces", "spectrum_slope", "gradient_kurtosis", "color_distance")


@command
def compare(
    contestants: Annotated[
        list[str],
        Parameter(
            metavar="DIR|NAME=DIR…",
            help="Folders of generate or maximize; a contestant is named by its folder, a repeated NAME adds a class.",
        ),
    ],
    /,
    *,
    real: Annotated[
        Path,
        Parameter(
            metavar="FOLDER",
            help="Photographs no statistics have seen; a tree of class folders; or an .npz file of what this judge measured of them.",
        ),
    ],
    judge: Annotated[
        str,
        Parameter(
            metavar=f"MODEL|{FACES}",
            help=f"A classifier that had no part in making the images; {FACES}: a face detector, for figures of faces.",
        ),
    ],
    output: Annotated[Path, Parameter(metavar="DIR", help=f"Folder for {METRICS} and {REPORT}.")],
    train: Annotated[Path | None, Parameter(metavar="FOLDER", help=described(compare_images, "train"))] = None,
    seed: Annotated[int, Parameter(help=described(compare_images, "seed"))] = default(compare_images, "seed"),
    source: NetworkFlags,
    flags: OutputFlags,
) -> None:
    """Tell how realistic and how varied images are: metrics.json and report.html."""
    check_count("seed", seed, at_least=0)
    named = name_contestants(contestants)
    if judge == FACES:
        if source.weights is not None:
            raise SettingsError(f"--weights are those of a network, and --judge {FACES} is none; leave them out")
        check_judge(judge, real=real, train=train)
    read_entries(named, real, train, output, overwrite=flags.overwrite)  # what is wrong is said before Keras is loaded
    terminal.require_writable(output)
    source.run_imports()
    network = terminal.load_judge(judge, weights=source.weights)
    with ProgressBar("comparing", quiet=flags.quiet) as bar:
        metrics = compare_images(
            named,
            real=real,
            judge=network,
            output=output,
            train=train,
            seed=seed,
            overwrite=flags.overwrite,
            progress=bar.on_progress,
        )
    print_comparison(metrics, output)


def print_comparison(metrics: Mapping[str, Any], output: Path) -> None:
    """Print the headlines of a comparison and where its report is."""
    for warning in metrics["warnings"]:
        terminal.say(f"warning: {warning}")
    rows = {**metrics["contestants"], REAL: metrics[REAL]}
    headlines = _FACE_HEADLINES if _FACE_HEADLINES[0] in metrics[REAL] else _HEADLINES
    print(
        terminal.format_table(
            [("", *headlines), *((name, *(_format(row.get(key)) for key in headlines)) for name, row in rows.items())]
        )
    )
    print(output / REPORT)


def name_contestants(words: list[str]) -> dict[str, list[Path]]:
    """Read ``DIR`` and ``NAME=DIR`` words into folders by name."""
    folders: dict[str, list[Path]] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign or Path(word).is_dir():  # a folder may have a "=" in its own name
            name, path = Path(word).resolve().name, word
        if not name or not path:
            raise SettingsError(f"'{word}' is neither DIR nor NAME=DIR")
        folders.setdefault(name, []).append(Path(path))
    return folders


def _format(figure: dict[str, Any] | None) -> str:
    return "-" if figure is None or figure["value"] is None else f"{figure['value']:.3g}"
