"""Hash what a fixed list of runs leaves behind, to see that a change of the code changed no result.

    python scripts/tools/hash_runs.py before.json
    …change the code…
    python scripts/tools/hash_runs.py after.json --against before.json

Every command that makes something runs, small, with the network and photographs that ship, through the command line. Hashes
hold on one machine with one set of versions: floating point is not the same on another. The second call ends with exit code 1
where anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

# What a run says of itself that is another the next time, whatever the code.
VOLATILE = {"seconds", "versions", "created", "path"}

N_CROPS, CROP = 24, 128

# In this order: later runs take what earlier ones left. Without -o it goes into a folder of the run's name.
RUNS = {
    "layers": "layers mini-vgg16",
    "collect": "collect photos/china -m mini-vgg16 --class church -o china.h5 --n-components 12",
    "collect_tree": "collect photos -m mini-vgg16 -o tree --layers block3_conv3,block5_conv3 --n-components 6 --layout-size 5",
    "shard_1": "collect photos/china -m mini-vgg16 --class church -o shard1.h5 --n-components 12 --shard 1/2",
    "shard_2": "collect photos/china -m mini-vgg16 --class church -o shard2.h5 --n-components 12 --shard 2/2",
    "merge": "merge shard1.h5 shard2.h5 -o merged.h5",
    "inspect": "inspect china.h5 --json",
    **{
        f"generate_{sampler}": f"generate mini-vgg16/church.h5 -n 3 --n-steps 4 --batch-size 2 --sampler {sampler}"
        for sampler in ("chain", "joint", "bootstrap", "independent")
    },
    "generate_own": "generate china.h5 -n 2 --n-steps 4 --seed 3 --size 96",
    "generate_component": "generate mini-vgg16/church.h5 -n 3 --n-steps 3 --component block5_conv3:1",
    "generate_walk": "generate mini-vgg16/church.h5 --walk 3 --n-steps 4",
    "generate_gif": "generate mini-vgg16/church.h5 -n 2 --n-steps 4 --gif --gradient-rule mix",
    "generate_all_terms": "generate mini-vgg16/church.h5 -n 2 --n-steps 4 --init photos/china/00.png --gradient-rule guided "
    "--recipe color=1,sharpness=1,spectrum=1,class_term=1,order=deepest-first,decay=true",
    "generate_pixels": "generate mini-vgg16/church.h5 -n 2 --n-steps 4 --recipe parameterization=pixels,learning_rate=0.02",
    **{
        f"maximize_{preset}": f"maximize church -m mini-vgg16 -n 3 --n-steps 5 --batch-size 2 --preset {preset}"
        for preset in ("simonyan", "regularised", "fourier")
    },
    "maximize_unit": "maximize -m mini-vgg16 -n 1 --n-steps 4 --unit block4_conv3_linear:3,block5_conv3:7:2:2",
    "maximize_diverse": "maximize church -m mini-vgg16 -n 2 --n-steps 4 --diversity 1 --contribution 5 --blur 0.5",
    "maximize_suppress": "maximize church -m mini-vgg16 -n 1 --n-steps 4 --suppress-outliers mini-vgg16/church.h5",
    "maximize_ablate": "maximize church -m mini-vgg16 -n 2 --n-steps 3 --ablate-constraints",
    "refine": "refine photos/china/00.png church -m mini-vgg16 -n 2 --checkpoints 2,5 --batch-size 1",
    "refine_suppress": "refine photos/china/01.png church -m mini-vgg16 --n-steps 4 "
    "--suppress-outliers mini-vgg16/church.h5",
    "morph_photo": "morph photos/china/00.png tench -m mini-vgg16 --n-frames 4 --n-steps 6",
    "morph_classes": "morph church tench -m mini-vgg16 --n-frames 3 --n-steps 4 -n 2 "
    "--suppress-outliers mini-vgg16/church.h5,mini-vgg16/tench.h5",
    "dream": "dream photos/flower/00.png -m mini-vgg16 --layer block3_conv3,block4_conv3:5=2 --octaves 2 --n-steps 3",
    "dream_guide": "dream photos/flower/00.png -m mini-vgg16 --layer block3_conv3 --octaves 2 --n-steps 2 "
    "--guide photos/china/00.png",
    "dream_tiles": "dream photos/flower/01.png -m mini-vgg16 --layer block3_conv3 --octaves 1 --n-steps 3 --size 160 --tile-size 80",
    "dream_zoom": "dream noise -m mini-vgg16 --layer block3_conv3 --octaves 1 --n-steps 2 --size 96 --zoom-frames 3 --rotate 2",
    "invert_lbfgs": "invert photos/china/00.png -m mini-vgg16 --layer block3_conv3 --n-steps 4",
    "invert_adam": "invert photos/china/00.png -m mini-vgg16 --layer block2_conv2,block4_conv3 --n-steps 4 --optimizer adam -n 2",
    "invert_guided": "invert photos/china/00.png -m mini-vgg16 --layer block3_conv3 --n-steps 4 --init photo "
    "--gradient-rule guided",
    "saliency": "saliency photos/china/00.png church -m mini-vgg16 --rule all --n-samples 4",
    "saliency_unit": "saliency photos/china/00.png -m mini-vgg16 --unit block4_conv3:3 --rule gradient,guided",
    "sweep": "sweep photos/china/00.png -m mini-vgg16 --layers block2_conv2,block4_conv3 --n-steps 1,3 --octaves 1 --judge mini-resnet",
    "sweep_folder": "sweep photos/few -m mini-vgg16 --layers block3_conv3 --n-steps 2 --octaves 1",
    "compare": "compare bootstrap=generate_bootstrap fourier=maximize_fourier --real photos/china --judge mini-resnet "
    "--train photos/flower",
}


def main() -> int:
    """Run all, write the hashes, tell what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="JSON file of the hashes")
    parser.add_argument("--against", type=Path, help="hashes of an earlier call")
    parser.add_argument("--keep", type=Path, help="folder to leave the runs in")
    parser.add_argument("--only", default="", help="names of runs that begin so, comma-separated")
    arguments = parser.parse_args()

    output = arguments.output.absolute()
    before = {} if arguments.against is None else json.loads(arguments.against.read_text())
    hashes: dict[str, dict[str, str]] = {}
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(contextlib.chdir(folder))
        cut_photographs()
        for name, words in RUNS.items():
            if arguments.only and not name.startswith(tuple(arguments.only.split(","))):
                continue
            started = time.monotonic()
            hashes[name] = run(with_output(words, name))
            print(f"{name}: {len(hashes[name])} hashes, {time.monotonic() - started:.1f} s", flush=True)
    output.write_text(json.dumps(hashes, indent=1, sort_keys=True) + "\n")
    if not before:
        return 0
    changes = list(differences({name: before[name] for name in before if name in hashes}, hashes))
    print(*changes, f"{len(changes)} differences in {sum(map(len, hashes.values()))} hashes", sep="\n")
    return bool(changes)


def cut_photographs() -> None:
    """Cut the two photographs that come with scikit-learn into small ones."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_image

    for number, name in enumerate(("china", "flower")):
        photograph = load_sample_image(f"{name}.jpg")
        rng = np.random.default_rng(number)
        tops = rng.integers(photograph.shape[0] - CROP, size=N_CROPS)
        lefts = rng.integers(photograph.shape[1] - CROP, size=N_CROPS)
        for crop, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            for folder in (f"photos/{name}", "photos/few") if crop < 2 else (f"photos/{name}",):
                path = Path(folder, f"{name if folder.endswith('few') else ''}{crop:02d}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photograph[top : top + CROP, left : left + CROP]).save(path)


def with_output(words: str, name: str) -> str:
    """Say where the output goes, where the words do not."""
    return words if " -o " in words or words.startswith(("layers", "inspect")) else f"{words} -o {name}"


def run(words: str) -> dict[str, str]:
    """Run one command; hash its output and the files it made or changed."""
    from stochdeconv.cli import main as command_line

    before = stamps()
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["stochdeconv", *shlex.split(words)])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"stochdeconv {words}\nended with {end.code}: {err.getvalue()}") from None
    after = stamps()
    made = sorted(path for path in after if after[path] != before.get(path))
    return {"stdout": digest(out.getvalue().encode()), **{path: part for name in made for path, part in parts(name)}}


def stamps() -> dict[str, tuple[int, int]]:
    """Tell when each file below the working folder was written."""
    return {
        path.as_posix(): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in Path().rglob("*")
        if path.is_file() and path.parts[0] != "photos"
    }


def parts(name: str) -> list[tuple[str, str]]:
    """Hash a file by what it means: arrays of an HDF5 or NPZ file one by one, JSON and tables without what changes anyway."""
    import h5py
    import numpy as np
    from PIL import Image

    path = Path(name)
    if path.suffix == ".h5":
        contents: dict[str, bytes] = {}

        def visit(inner: str, node: Any) -> None:
            for key, value in node.attrs.items():
                contents[f"{inner}@{key}"] = plain(value)
            if isinstance(node, h5py.Dataset):
                value = node[()]
                contents[inner] = f"{getattr(value, 'dtype', '')}{getattr(value, 'shape', '')}".encode() + (
                    value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else plain(value)
                )

        with h5py.File(path) as file:
            visit("", file)
            file.visititems(visit)
        return [(f"{name}:{inner}", digest(content)) for inner, content in contents.items()]
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return [
                (f"{name}:{key}", digest(str(arrays[key].dtype).encode() + arrays[key].tobytes())) for key in arrays
            ]
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return [(name, digest(picture.mode.encode() + picture.tobytes()))]
    if path.suffix == ".json":
        return [(name, digest(json.dumps(lasting(json.loads(path.read_text())), sort_keys=True).encode()))]
    if path.suffix == ".html":
        return []  # it draws what metrics.json and the pictures hold, by a library whose files carry dates and random names
    return [(name, digest(path.read_bytes()))]


def plain(value: Any) -> bytes:
    """Write an attribute or text without what changes anyway."""
    text = value.decode() if isinstance(value, bytes) else value
    if isinstance(text, str):
        with contextlib.suppress(ValueError):
            text = json.dumps(lasting(json.loads(text)), sort_keys=True)
    return repr(text.tolist() if hasattr(text, "tolist") else text).encode()


def lasting(value: Any) -> Any:
    """Leave out what is another at every run."""
    if isinstance(value, dict):
        return {key: lasting(part) for key, part in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [lasting(part) for part in value]
    return value


def digest(content: bytes) -> str:
    """Hash bytes, shortly."""
    return hashlib.sha256(content).hexdigest()[:16]


def differences(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> list[str]:
    """Name what differs, run by run."""
    changes = []
    for name in {**before, **after}:
        old, new = before.get(name, {}), after.get(name, {})
        changes += [
            f"{name}: {key} {'gone' if key not in new else 'new' if key not in old else 'differs'}"
            for key in {**old, **new}
            if old.get(key) != new.get(key)
        ]
    return changes


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
