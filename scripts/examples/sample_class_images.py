"""Make images of a class with several samplers, from the same statistics and the same seed, to see what each does.

python scripts/examples/sample_class_images.py stats_cache/vgg16/church.h5 -o out/church
python scripts/examples/sample_class_images.py church.h5 -o out --samplers chain bootstrap -n 4 --n-steps 128 --temperature 0.7
"""

import argparse
from pathlib import Path

import stochdeconv as sd


def main() -> None:
    """Read the arguments and make the images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("statistics", type=Path, help="a file of stochdeconv collect")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for one run folder a sampler")
    parser.add_argument("-m", "--model", help="the network, if it is not where the file says it was")
    parser.add_argument("--samplers", nargs="+", default=list(sd.samplers.SAMPLERS), choices=sd.samplers.SAMPLERS)
    parser.add_argument("-n", "--n-images", type=int, default=8)
    parser.add_argument("--n-steps", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    statistics = sd.load_statistics(arguments.statistics)
    model = sd.load_model(arguments.model or statistics.model_source)
    for sampler in arguments.samplers:
        result = sd.generate(
            model,
            statistics,
            sampler=sampler,
            n_images=arguments.n_images,
            n_steps=arguments.n_steps,
            temperature=arguments.temperature,
            seed=arguments.seed,
        )
        print(result.save(arguments.output / sampler) / "contact_sheet.png")


if __name__ == "__main__":
    main()
