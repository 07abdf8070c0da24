"""A statistic is added by one file and its entry in the registry: docs/how-to/adding_a_statistic.md, done."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

# In a process of its own: whoever goes through the registry has imported it once and for all.
SCRIPT = """
import sys, types
from pathlib import Path

def install(name, source):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), vars(module))

install("stochdeconv.statistics.kurtosis", Path("kurtosis.py").read_text())
install("stochdeconv.statistics.registry", Path("registry.py").read_text())

import keras, numpy as np
import stochdeconv as sd
from PIL import Image

keras.utils.set_random_seed(0)
network = keras.Sequential([
    keras.layers.Input((16, 16, 3)),
    keras.layers.Conv2D(5, 3, activation="relu", name="low"),
    keras.layers.Conv2D(6, 3, activation="relu", name="deep"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(2, activation="softmax"),
])
model = sd.load_model(network, preprocessing="tf", class_names=["church", "tench"])
rng = np.random.default_rng(0)
Path("church").mkdir()
for number in range(12):
    Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(f"church/{number:02d}.png")

settings = {"n_components": 4, "layout_size": 4}
statistics = sd.collect(model, "church", **settings)
maps = model.activations(np.stack([sd.images.files.load_image(f"church/{n:02d}.png") for n in range(12)]), ["low"])["low"]
deviations = (maps - maps.mean(axis=(1, 2), keepdims=True)).astype(np.float64)
expected = np.log(((deviations**4).mean(axis=(1, 2)) + 1e-6) / ((deviations**2).mean(axis=(1, 2)) ** 2 + 1e-6))
np.testing.assert_allclose(statistics["low"].log_kurtosis, expected, atol=1e-3)

from stochdeconv.statistics.collection import merge
for number in (1, 2):
    shard = sd.collect(model, "church", shard=(number, 2), **settings)
    sd.save_statistics(shard, f"{number}.h5")
    shard.close()
sd.save_statistics(statistics, "once.h5")
sd.save_statistics(merge(["1.h5", "2.h5"]), "merged.h5")
assert Path("once.h5").read_bytes() == Path("merged.h5").read_bytes()
loaded = sd.load_statistics("once.h5")
np.testing.assert_array_equal(loaded["low"].log_kurtosis, statistics["low"].log_kurtosis)

targets = sd.samplers.sample_targets(loaded, n_images=2, sampler="joint")
assert targets.layers["low"].log_kurtosis.shape == (2, 5)
recipe = "kurtosis=1,layout=0,shallow_layout=0,color_layout=0,moments=0,facets=0,class_term=0,total_variation=0"
history = sd.generate(model, loaded, n_images=1, n_steps=40, recipe=recipe).history
assert history[-1]["kurtosis:low"] < 0.5 * history[0]["kurtosis:low"], history
assert history[-1].keys() == {"batch", "step", "kurtosis:deep", "kurtosis:low", "kurtosis:input"}

# A file from before has none, and is asked as before.
before = sd.load_statistics(sys.argv[1])
assert before["first"].log_kurtosis is None
assert "log_kurtosis" not in sd.samplers.sample_targets(before, n_images=1).layers["first"].fields
assert before.hash() == sys.argv[2]
"""


def test_a_statistic_is_added_by_one_file_and_its_entry(tmp_path):
    page = (ROOT / "docs" / "how-to" / "adding_a_statistic.md").read_text()
    code, entry = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    registry = (ROOT / "stochdeconv" / "statistics" / "registry.py").read_text()
    listed = re.compile(r"^STATISTICS: .*?\)\n", re.MULTILINE | re.DOTALL)
    names = [re.findall(r"\b[A-Z_]{4,}\b", text)[1:] for text in (listed.search(registry)[0], entry)]
    assert names[1] == [*names[0], "KURTOSIS"]
    imported = "from stochdeconv.statistics.kurtosis import KURTOSIS\n"
    (tmp_path / "kurtosis.py").write_text(code)
    (tmp_path / "registry.py").write_text(
        listed.sub(lambda _: entry, registry).replace(
            "from stochdeconv.statistics.layout", f"{imported}from stochdeconv.statistics.layout"
        )
    )
    earlier = Path(__file__).parent / "data" / "statistics_v2.h5"
    script = f"import sys\nsys.argv = ['', {str(earlier)!r}, {_hash_of(earlier)!r}]\n" + textwrap.dedent(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr


def _hash_of(path: Path) -> str:
    from stochdeconv.statistics.file import load_statistics

    return load_statistics(path).hash()
