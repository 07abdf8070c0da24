"""Commands that dream: dream, sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stochdeconv.cli import running, terminal
from stochdeconv.cli.terminal import ProgressBar, default
from stochdeconv.errors import MissingInputError
from stochdeconv.images.faces import FACES
from stochdeconv.methods.dream import ZOOM, ZOOM_FRAMES, Octaves, plan_zoom
from stochdeconv.methods.dream import dream as dream_image
from stochdeconv.methods.recognisers import check_judge
from stochdeconv.methods.sweep import sweep as sweep_photos
from stochdeconv.parsing import read_list

Jitter = Annotated[int, typer.Option(min=0, help="Largest random shift of the view at each step, in pixels.")]
NumberOfOctaves = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Sizes the picture is dreamt at.",
        show_default=f"{Octaves.octaves}; fewer where the layers see nothing in the smallest",
    ),
]
OctaveScale = Annotated[float, typer.Option(help="Ratio of one size to the next.")]
StepSize = Annotated[float, typer.Option(help="Mean absolute change of a step, in 8-bit pixel values.")]
StepsAnOctave = Annotated[int, typer.Option(min=1, help="Steps at each octave.")]
PhotoSize = Annotated[
    int | None,
    typer.Option(min=1, help="Shorter side in pixels.", show_default="the photograph's; for noise the network's"),
]


def dream(
    photo: Annotated[str, typer.Argument(metavar="PHOTO|noise", help="A photograph of any size, or noise.")],
    model: terminal.Model,
    layer: Annotated[
        str,
        typer.Option(
            metavar="LAYER[:CHANNEL][=WEIGHT],…",
            help=f"Layers or channels to amplify, and how much of each. {terminal.LAYER_HELP}",
        ),
    ],
    output: running.Output,
    octaves: NumberOfOctaves = None,
    octave_scale: OctaveScale = default(dream_image, "octave_scale"),
    jitter: Jitter = default(dream_image, "jitter"),
    step_size: StepSize = default(dream_image, "step_size"),
    guide: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Amplify the features of this picture instead of the strongest ones."),
    ] = None,
    zoom_frames: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Frames of a stream that zooms into the dream, as GIF and MP4; 0 for a single picture.",
            show_default=f"0; with --zoom or --rotate {ZOOM_FRAMES}",
        ),
    ] = None,
    zoom: Annotated[
        float | None, typer.Option(help="Part by which each frame is enlarged.", show_default=str(ZOOM))
    ] = None,
    rotate: Annotated[float, typer.Option(help="Degrees by which each frame is turned, counterclockwise.")] = default(
        dream_image, "rotate"
    ),
    weights: terminal.Weights = None,
    n_steps: StepsAnOctave = default(dream_image, "n_steps"),
    size: PhotoSize = None,
    tile_size: Annotated[
        int, typer.Option(min=32, help="A larger picture goes through the network in tiles of this side, in pixels.")
    ] = default(dream_image, "tile_size"),
    batch_size: Annotated[
        int, typer.Option(min=1, help="Tiles at a time; more take more memory, and less time where tiles are small.")
    ] = default(dream_image, "batch_size"),
    seed: terminal.Seed = default(dream_image, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv dream``."""
    Octaves(octaves or Octaves.octaves, octave_scale, jitter, step_size, n_steps, tile_size, batch_size)
    plan_zoom(zoom_frames, zoom, rotate)
    read_list(layer, "layer")
    running.check_picture(photo, guide)
    running.check_output(output, overwrite=overwrite)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    with ProgressBar(layer, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: dream_image(
                network,
                photo,
                layer,
                octaves=octaves,
                octave_scale=octave_scale,
                jitter=jitter,
                step_size=step_size,
                guide=guide,
                zoom_frames=zoom_frames,
                zoom=zoom,
                rotate=rotate,
                n_steps=n_steps,
                size=size,
                tile_size=tile_size,
                batch_size=batch_size,
                seed=seed,
                callback=bar.on_step,
            ),
            output,
            overwrite=overwrite,
        )
    running.report(output, complete=saved)


def sweep(
    photos: Annotated[str, typer.Argument(metavar="PHOTO|FOLDER", help="A photograph, or a folder of them.")],
    model: terminal.Model,
    layers: Annotated[
        str, typer.Option(metavar="LAYER,LAYER,…", help=f"Layers, a row of the grid each. {terminal.LAYER_HELP}")
    ],
    output: running.Output,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar=f"MODEL|{FACES}", help=f"A second network that is asked what it sees; {FACES}: a face detector."
        ),
    ] = None,
    octaves: NumberOfOctaves = None,
    octave_scale: OctaveScale = default(sweep_photos, "octave_scale"),
    jitter: Jitter = default(sweep_photos, "jitter"),
    step_size: StepSize = default(sweep_photos, "step_size"),
    weights: terminal.Weights = None,
    n_steps: Annotated[
        str, typer.Option(metavar="N,N,…", help="Steps at each octave, a column of the grid each.")
    ] = terminal.as_list(default(sweep_photos, "n_steps")),
    size: terminal.Size = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photographs at a time.")] = default(
        sweep_photos, "batch_size"
    ),
    seed: terminal.Seed = default(sweep_photos, "seed"),
    dtype: terminal.Dtype = None,
    overwrite: terminal.Overwrite = False,
    quiet: terminal.Quiet = False,
) -> None:
    """Run ``stochdeconv sweep``."""
    steps = terminal.parse_numbers(n_steps, "--n-steps")
    Octaves(octaves or Octaves.octaves, octave_scale, jitter, step_size, min(steps))
    read_list(layers, "layer")
    if judge == FACES:
        check_judge(judge)
    if not Path(photos).exists():
        raise MissingInputError(f"no such photograph or folder: '{photos}'")
    if not Path(photos).is_dir():
        running.check_picture(photos)
    running.check_output(output, overwrite=overwrite)
    network = terminal.load_model(model, weights=weights, dtype=dtype)
    second = None if judge is None else terminal.load_judge(judge, dtype=dtype)
    with ProgressBar(layers, quiet=quiet) as bar:
        saved = running.save_what_comes(
            lambda: sweep_photos(
                network,
                photos,
                layers,
                judge=second,
                octaves=octaves,
                octave_scale=octave_scale,
                jitter=jitter,
                step_size=step_size,
                n_steps=steps,
                size=size,
                batch_size=batch_size,
                seed=seed,
                callback=bar.on_step,
            ),
            output,
            overwrite=overwrite,
        )
    running.report(output, complete=saved)
