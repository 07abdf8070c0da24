"""Draw the gallery: every method, the command that ran it, and the picture it made.

Works in a folder of its own, with scikit-learn's two photographs; what is there already is not made again. The networks, .keras files with
their sidecars, are those in the folder `models` of `--shared`; `--statistics` is the folder of class statistics that `collect` made with
SqueezeNet.

    python scripts/tools/draw_gallery.py -o out/gallery --shared ../shared --statistics stats_cache/squeezenet --only dream
"""

import argparse
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

from stochdeconv.files import write_atomically
from stochdeconv.images.files import jpeg_bytes, load_image, save_png, stretch

SQUEEZENET, GOOGLENET, MINI = "-m squeezenet.keras", "-m googlenet.keras", "-m mini-vgg16"
# Networks by the names the commands below call them, and the files they are.
NETWORKS = {
    "squeezenet": "squeezenet_v1.0_imagenet",
    "mobilenet": "mobilenet_v1_0.75_imagenet",
    "googlenet": "bvlc_googlenet_imagenet",
}
# Those the commands below read.
STATISTICS = ("church.h5", "English_springer.h5")
ROOT = Path(__file__).resolve().parents[2]
# Widest picture of the page, in pixels.
WIDTH = 1000


@dataclass(frozen=True)
class Exhibit:
    """A command and what is to be seen of it."""

    command: str
    caption: str
    picture: str = "contact_sheet.png"

    @property
    def output(self) -> str:
        """The folder the command writes to."""
        words = shlex.split(self.command)
        return words[words.index("-o") + 1]


@dataclass(frozen=True)
class Section:
    """A method: what it is for, and examples."""

    title: str
    text: str
    exhibits: tuple[Exhibit, ...]


STREAM = (
    f"stochdeconv dream noise {GOOGLENET} --layer inception_4d_pool --size 224 --zoom-frames 48 -o googlenet_stream"
)

SECTIONS = (
    Section(
        "saliency: which pixels a class depends on",
        "Seven rules on one sheet. What they show, and what guided backpropagation does not, is on "
        "[a page of its own](../how-to/saliency.md).",
        (
            Exhibit(f"stochdeconv saliency china.png {SQUEEZENET} -o saliency", "SqueezeNet"),
            Exhibit(f"stochdeconv saliency china.png church {MINI} -o saliency_mini", "mini-vgg16"),
        ),
    ),
    Section(
        "maximize: what raises a class, a unit, a direction",
        "From noise, with the constraints that natural images obey: none, each alone, all together.",
        (
            Exhibit(
                f"stochdeconv maximize goldfish {SQUEEZENET} --ablate-constraints -n 3 -o constraints",
                "SqueezeNet, goldfish",
            ),
            Exhibit(
                f'stochdeconv maximize "golf ball" {MINI} --ablate-constraints -n 3 -o constraints_mini',
                "mini-vgg16, golf ball",
            ),
            Exhibit(
                f"stochdeconv maximize {SQUEEZENET} --unit fire6_concat:20 -n 4 -o unit",
                "A channel, four starts: SqueezeNet, fire6_concat:20",
            ),
            Exhibit(
                f"stochdeconv maximize {SQUEEZENET} --unit fire6_concat:20 -n 4 --diversity 300 -o diversity",
                "The same channel, the four asked to differ",
            ),
            Exhibit(f'stochdeconv maximize "goldfish,church" {SQUEEZENET} -n 4 -o several', "Two classes at once"),
        ),
    ),
    Section(
        "maximize --suppress-outliers: what the class's own activations forbid",
        "The class score is raised; where activations become an outlier of the class's distribution, the channels that make "
        "them so are lowered. [What it does and what it does not](../how-to/outlier_suppression.md).",
        (
            Exhibit(f"stochdeconv maximize church {SQUEEZENET} -n 4 -o church", "SqueezeNet, church, without"),
            Exhibit(
                f"stochdeconv maximize church {SQUEEZENET} -n 4 --suppress-outliers church.h5 -o church_suppressed",
                "SqueezeNet, church, with",
            ),
            Exhibit(f"stochdeconv maximize church {MINI} -n 4 -o church_mini", "mini-vgg16, church, without"),
            Exhibit(
                f"stochdeconv maximize church {MINI} -n 4 --suppress-outliers mini-vgg16/church.h5 -o church_suppressed_mini",
                "mini-vgg16, church, with",
            ),
        ),
    ),
    Section(
        "refine: a photograph made more like its class",
        "The strip shows the photograph and what becomes of it; the steps are the finer the more there are.",
        (
            Exhibit(f"stochdeconv refine flower.png daisy {SQUEEZENET} -o refined", "SqueezeNet, daisy"),
            Exhibit(
                f"stochdeconv refine china.png church {SQUEEZENET} --suppress-outliers church.h5 -o refined_suppressed",
                "SqueezeNet, church, outliers suppressed",
            ),
            Exhibit(f"stochdeconv refine china.png church {MINI} -o refined_mini", "mini-vgg16, church"),
        ),
    ),
    Section(
        "morph: one thing turned into another",
        "A photograph, or an image of one class, turns into another class. Statistics of the class keep the "
        "picture [nearer to what its photographs activate](../how-to/outlier_suppression.md#in-refine-and-morph).",
        (
            Exhibit(
                f"stochdeconv morph china.png castle {SQUEEZENET} -o morph", "SqueezeNet, a photograph to a castle"
            ),
            Exhibit(
                f"stochdeconv morph china.png church {SQUEEZENET} --suppress-outliers church.h5 -o morph_suppressed",
                "SqueezeNet, a photograph to a church, outliers suppressed",
            ),
            Exhibit(
                f'stochdeconv morph "English springer" church {SQUEEZENET} -o morph_classes '
                "--suppress-outliers English_springer.h5,church.h5 --strength 10",
                "SqueezeNet, English springer to church, outliers of both suppressed, strength 10",
            ),
            Exhibit(f'stochdeconv morph church "golf ball" {MINI} -o morph_mini', "mini-vgg16, church to golf ball"),
            Exhibit(
                f"stochdeconv morph china.png church {MINI} -o morph_photo_mini", "The frames, moving", "animation.gif"
            ),
        ),
    ),
    Section(
        "dream: as it was in 2015",
        "The network of the first DeepDreams, [GoogLeNet](../how-to/deepdream.md#the-network), and that program's settings, our defaults. "
        "Early layers give strokes; in the fourth block buildings, cars and animals grow out of the picture.",
        (
            Exhibit(
                f"stochdeconv dream china.png {GOOGLENET} --layer inception_3b_5x5_reduce -o googlenet_3b_5x5_reduce",
                "inception_3b_5x5_reduce: strokes",
            ),
            Exhibit(
                f"stochdeconv dream flower.png {GOOGLENET} --layer inception_4c_output -o googlenet_4c_output",
                "inception_4c_output: eyes and beaks",
            ),
            Exhibit(
                f"stochdeconv dream china.png {GOOGLENET} --layer inception_4c_output --size 854 -o googlenet_4c_china",
                "inception_4c_output, the photograph at twice its size: boats, towers, wheels, a bird",
                "image_000.png",
            ),
            Exhibit(
                f"stochdeconv dream china.png {GOOGLENET} --layer inception_4d_pool --size 854 -o googlenet_4d_pool",
                "inception_4d_pool, as large: animals",
                "image_000.png",
            ),
            Exhibit(
                f"stochdeconv dream china.png {GOOGLENET} --layer inception_3b_output --guide flower.png -o googlenet_guided_3b",
                "Guided by a flower, at the layer of the original program",
            ),
            Exhibit(
                f"stochdeconv dream china.png {GOOGLENET} --layer inception_4c_output --guide flower.png -o googlenet_guided_4c",
                "Guided by the same flower, deeper: whole flowers",
                "image_000.png",
            ),
            Exhibit(STREAM, "The endless zoom, from noise: some of the frames"),
            Exhibit(STREAM, "The same, moving", "animation.gif"),
        ),
    ),
    Section(
        "dream: more of what a layer sees",
        "Lower layers give strokes, higher ones whole objects. A guide picture says what to look for; fed back with a little zoom, a "
        "dream becomes a stream.",
        (
            Exhibit(f"stochdeconv dream china.png {SQUEEZENET} --layer fire3_concat -o dream_low", "SqueezeNet, fire3"),
            Exhibit(
                f"stochdeconv dream china.png {SQUEEZENET} --layer fire5_concat -o dream_middle", "SqueezeNet, fire5"
            ),
            Exhibit(
                f"stochdeconv dream china.png {SQUEEZENET} --layer fire9_concat -o dream_high", "SqueezeNet, fire9"
            ),
            Exhibit(
                f"stochdeconv dream china.png {SQUEEZENET} --layer fire8_concat --guide flower.png -o dream_guided",
                "SqueezeNet, fire8, guided by a flower",
            ),
            Exhibit(
                f"stochdeconv dream noise {SQUEEZENET} --layer fire9_concat --zoom-frames 24 --rotate 1 -o stream",
                "SqueezeNet, a stream from noise",
            ),
            Exhibit(
                f"stochdeconv dream china.png {MINI} --layer block5_conv3 --size 224 -o dream_mini",
                "mini-vgg16, block5",
            ),
        ),
    ),
    Section(
        "invert: what a layer keeps",
        "A picture is sought whose activations are those of the photograph, from noise. The number is what is left of the squared "
        "distance.",
        (
            Exhibit(
                f"stochdeconv invert china.png {SQUEEZENET} -o inverted "
                "--layer conv1_relu,fire3_concat,fire5_concat,fire7_concat,fire9_concat",
                "SqueezeNet, L-BFGS",
            ),
            Exhibit(
                f"stochdeconv invert china.png {SQUEEZENET} --layer fire3_concat,fire9_concat -n 3 -o reconstructions",
                "SqueezeNet, three pictures of each layer: what they do not agree on, the layer does not keep",
            ),
            Exhibit(
                f"stochdeconv invert china.png {SQUEEZENET} --layer fire5_concat,fire7_concat --enhance 1.5 --init photo -o enhanced",
                "SqueezeNet, activations enhanced by half, from the photograph",
            ),
            Exhibit(
                f"stochdeconv invert china.png {MINI} -o inverted_mini "
                "--layer block1_conv2,block2_conv2,block3_conv3,block4_conv3,block5_conv3",
                "mini-vgg16, L-BFGS",
            ),
        ),
    ),
    Section(
        "sweep: layers by iterations, and what is recognised",
        "Below each dream: what the network sees, then what a second one sees. `cells.csv` holds the five surest names before and after, "
        "`rates.csv` how often a folder's photographs are still recognised. Layers may be numbers, as `stochdeconv layers` lists them.",
        (
            Exhibit(
                f"stochdeconv sweep china.png {GOOGLENET} --layers 2,26,39,58,84 --n-steps 10,50 --judge mobilenet.keras "
                "-o googlenet_swept",
                "GoogLeNet, layers by number, judged by MobileNet",
            ),
            Exhibit(
                f"stochdeconv sweep china.png {SQUEEZENET} --layers fire3_concat,fire5_concat,fire9_concat --n-steps 3,10,30 "
                "--judge mobilenet.keras -o swept",
                "SqueezeNet, judged by MobileNet",
            ),
            Exhibit(
                f"stochdeconv sweep china.png {MINI} --layers block2_conv2,block4_conv3,block5_conv3 --n-steps 3,10,30 "
                "--judge mini-resnet -o swept_mini",
                "mini-vgg16, judged by mini-resnet",
            ),
        ),
    ),
    Section(
        "generate --component, --walk: what varies in a class",
        "The class's mean moved along one component of a layer, everything else by its regression; and the way from one sample to "
        "another.",
        (
            Exhibit(
                f"stochdeconv generate church.h5 {SQUEEZENET} --component fire9_concat:0 -o component",
                "SqueezeNet, church, the first component of fire9",
            ),
            Exhibit(
                "stochdeconv generate mini-vgg16/English_springer.h5 --component block4_conv3:0 -o component_mini",
                "mini-vgg16, English springer, the first component of block4",
            ),
            Exhibit(
                "stochdeconv generate mini-vgg16/church.h5 --walk 16 -o walk_mini",
                "mini-vgg16, church, a walk",
                "animation.gif",
            ),
        ),
    ),
)


def main() -> None:
    """Run what has not been run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("STOCHDECONV_SHARED", ROOT.parent / "shared"))
    )
    parser.add_argument("--statistics", type=Path, default=ROOT / "stats_cache" / "squeezenet")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gallery")
    parser.add_argument("--only", default="", help="sections whose title begins with this")
    arguments = parser.parse_args()
    prepare(arguments)
    chosen = [section for section in SECTIONS if section.title.startswith(arguments.only)]
    for exhibit in (exhibit for section in chosen for exhibit in section.exhibits):
        run(exhibit, arguments.output)
        draw(arguments.output / exhibit.output / exhibit.picture, arguments.page / picture_name(exhibit))
    write_atomically(arguments.page / "README.md", page().encode())
    print(arguments.page / "README.md")


def prepare(arguments: argparse.Namespace) -> None:
    """Put the photographs, networks and statistics where the commands look for them."""
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        save_png(folder / f"{name}.png", photo)
    models = arguments.shared / "models"
    files = {
        f"{name}{suffix}": models / f"{file}{suffix}"
        for name, file in NETWORKS.items()
        for suffix in (".keras", ".json")
    }
    files["imagenet_classes.json"] = models / "imagenet_classes.json"
    files |= {name: arguments.statistics / name for name in STATISTICS}
    for name, target in files.items():
        if target.exists() and not (folder / name).exists():
            os.symlink(target.resolve(), folder / name)


def run(exhibit: Exhibit, folder: Path) -> None:
    """Run a command, unless this very one has been run to its end."""
    record = folder / f"{exhibit.output}.command"
    if record.exists() and record.read_text() == exhibit.command:
        return
    print(exhibit.command, flush=True)
    subprocess.run(
        [*shlex.split(exhibit.command), "--overwrite", "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    record.write_text(exhibit.command)


def picture_name(exhibit: Exhibit) -> str:
    """Name the picture on the page: a GIF becomes a WebP that moves, a third of its size; a PNG a JPEG, a fifth."""
    return exhibit.output + (".webp" if exhibit.picture.endswith(".gif") else ".jpg")


def draw(picture: Path, target: Path) -> None:
    """Put a picture beside the page, no wider than the page is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".webp":
        with Image.open(picture) as animation:
            animation.save(target, save_all=True, quality=80, method=6)
        return
    image = load_image(picture)
    if image.shape[1] > WIDTH:
        image = stretch(image, (round(image.shape[0] * WIDTH / image.shape[1]), WIDTH))
    write_atomically(target, jpeg_bytes(image.clip(0, 1), quality=88))


def page() -> str:
    """Write the page: one section a method, with the commands."""
    parts = [
        "# Gallery\n",
        "Every method on two networks: SqueezeNet 1.0, trained on ImageNet, and `mini-vgg16`, which ships; dreams on GoogLeNet too. The "
        "photographs are scikit-learn's `china.jpg` and `flower.jpg`; seeds are 0 and up, nothing was picked. "
        "`scripts/tools/draw_gallery.py` runs the commands and writes this page.\n",
    ]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n\n{section.text}\n")
        for exhibit in section.exhibits:
            parts.append(
                f"**{exhibit.caption}**\n\n```\n{exhibit.command}\n```\n![{exhibit.caption}]({picture_name(exhibit)})\n"
            )
    parts.append(
        "## Not only pictures\n\nThe same loop on a network of voxels, under constraints of its own: [voxels](../how-to/voxels.md).\n"
    )
    return "\n".join(parts)


if __name__ == "__main__":
    main()
