"""Metadata of the distribution without TensorFlow: that of the other, but for what needs it."""

import re
import tomllib
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LEFT_OUT = "tensorflow"
EXTRAS = ("torch", "jax", "ray", "faces")


class WithoutTensorFlow(MetadataHookInterface):
    """Read the metadata of the package, and leave TensorFlow to an extra."""

    def update(self, metadata: dict) -> None:
        """Fill in what is dynamic."""
        root = Path(self.root).parent
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        for name in ("description", "license", "requires-python", "scripts"):
            metadata[name] = project[name]
        metadata["dependencies"] = [need for need in project["dependencies"] if not _is_left_out(need)]
        extras = {name: project["optional-dependencies"][name] for name in EXTRAS}
        extras[LEFT_OUT] = [need for need in project["dependencies"] if _is_left_out(need)]
        metadata["optional-dependencies"] = extras


def _is_left_out(requirement: str) -> bool:
    return re.match(r"[\w-]+", requirement)[0] == LEFT_OUT
