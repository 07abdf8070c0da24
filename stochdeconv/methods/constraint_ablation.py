"""The constraints of activation maximization side by side: none, each alone, all together (Yosinski et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from stochdeconv.methods.presets import PRESETS, Preset

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult
    from stochdeconv.optimization.loop import OptimizationResult, Step

#: Constraint -> the settings of `Preset` that make it.
CONSTRAINTS = {
    "l2": ("l2", "amplitude"),
    "blur": ("blur", "blur_every"),
    "jitter": ("jitter",),
    "clip": ("clip",),
    "contribution": ("contribution",),
}
#: The preset whose values the constraints have; it leaves small contributions alone, of which this percentile is clipped here.
VALUES_OF, CONTRIBUTION = "regularised", 50.0


def ablation_rows(how: Preset) -> dict[str, Preset]:
    """Part a preset that has all constraints into one with none, one with each alone, and itself."""
    free = Preset(how.parameterization, how.optimizer, how.learning_rate, l2=0.0)
    alone = {
        name: replace(free, **{setting: getattr(how, setting) for setting in settings})
        for name, settings in CONSTRAINTS.items()
    }
    return {"none": free, **alone, "all": how}


def all_constraints(how: Preset, given: dict[str, float | None]) -> Preset:
    """Return a preset of pixels with every constraint: as given, else as `VALUES_OF` has it."""
    values = vars(
        replace(
            PRESETS[VALUES_OF], contribution=CONTRIBUTION, **({"amplitude": 0.0} if given["l2"] is not None else {})
        )
    )
    settings = [setting for settings in CONSTRAINTS.values() for setting in settings]
    return replace(how, **{name: values[name] for name in settings if given.get(name) is None})


def run_rows(
    runs: dict[str, Callable[[int, int, Callable[[Step], None]], OptimizationResult]],
    n_images: int,
    *,
    batch_size: int,
    callback: Callable[[Step], None] | None,
) -> OptimizationResult:
    """Run one setting after another, `n_images` each; a row of the history says by ``constraints`` whose it is.

    Raises
    ------
    OptimizationInterrupted
        On Ctrl-C, with the images as far as they came.
    """
    from stochdeconv.optimization.loop import OptimizationInterrupted, optimize_in_batches

    names = list(runs)

    def run_row(number: int, _: int, on_step: Callable[[Step], None]) -> OptimizationResult:
        def named(result: OptimizationResult) -> OptimizationResult:
            return replace(result, history=[{"constraints": names[number], **row} for row in result.history])

        try:
            return named(optimize_in_batches(runs[names[number]], n_images, batch_size=batch_size, callback=on_step))
        except OptimizationInterrupted as interrupt:
            raise OptimizationInterrupted(named(interrupt.result)) from interrupt

    return optimize_in_batches(run_row, len(names), batch_size=1, callback=callback)


def with_sheet(result: RunResult, rows: dict[str, Preset], n_images: int) -> RunResult:
    """Put the images on one sheet, a row a setting, with what it is below each."""
    from stochdeconv.images.sheets import contact_sheet

    captions = [describe(name, how) for name, how in rows.items() for _ in range(n_images)]
    return replace(
        result,
        sheet=contact_sheet(result.images, columns=n_images, captions=captions[: len(result.images)]),
    )


def describe(name: str, how: Preset) -> str:
    """Say in a few words what a row was made with."""
    words = {
        "l2": f"L2 decay {how.l2:.2g}",
        "blur": f"blur {how.blur:g} px every {how.blur_every} steps",
        "jitter": f"jitter {how.jitter} px",
        "clip": f"clip to 0.5 ± {how.clip:g}",
        "contribution": f"clip {how.contribution:g} % smallest contributions",
    }
    return {"none": "no constraint", "all": "all five"}.get(name) or words[name]
