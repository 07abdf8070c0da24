"""The constraints of activation maximization side by side: none, each alone, all together (Yosinski et al. 2015)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stochdeconv.methods.presets import PRESETS, Preset

if TYPE_CHECKING:
    from stochdeconv.methods.runs import RunResult

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


def ablation_rows(preset: Preset) -> dict[str, Preset]:
    """Part a preset that has all constraints into one with none, one with each alone, and itself."""
    free = Preset(preset.parameterization, preset.optimizer, preset.learning_rate, l2=0.0)
    rows = {"none": free}
    for name, settings in CONSTRAINTS.items():
        values: dict[str, Any] = {setting: getattr(preset, setting) for setting in settings}
        rows[name] = replace(free, **values)
    return {**rows, "all": preset}


def all_constraints(preset: Preset, overrides: dict[str, float | None]) -> Preset:
    """Return a preset of pixels with every constraint: as it is overridden, else as `VALUES_OF` has it."""
    template = replace(PRESETS[VALUES_OF], contribution=CONTRIBUTION)
    if overrides["l2"] is not None:
        template = replace(template, amplitude=0.0)
    values = vars(template)
    settings = [setting for settings in CONSTRAINTS.values() for setting in settings]
    return replace(preset, **{name: values[name] for name in settings if overrides.get(name) is None})


def with_sheet(result: RunResult, rows: dict[str, Preset], n_images: int) -> RunResult:
    """Put the images on one sheet, a row a setting, with what it is below each."""
    from stochdeconv.images.sheets import contact_sheet

    captions = [describe(name, preset) for name, preset in rows.items() for _ in range(n_images)]
    return replace(
        result,
        sheet=contact_sheet(result.images, columns=n_images, captions=captions[: len(result.images)]),
    )


def describe(name: str, preset: Preset) -> str:
    """Say in a few words what a row was made with."""
    words = {
        "l2": f"L2 decay {preset.l2:.2g}",
        "blur": f"blur {preset.blur:g} px every {preset.blur_every} steps",
        "jitter": f"jitter {preset.jitter} px",
        "clip": f"clip to 0.5 ± {preset.clip:g}",
        "contribution": f"clip {preset.contribution:g} % smallest contributions",
    }
    return {"none": "no constraint", "all": "all five"}.get(name) or words[name]
