"""What networks can be had, how large they are and which are on this machine already; known without Keras."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stochdeconv.shipped import NETWORKS, shipped_file


@dataclass(frozen=True)
class Offer:
    """A network that a word loads.

    Attributes
    ----------
    name : str
        The word.
    n_parameters : int
        With the classifier.
    side : int
        Height and width of its images, pixels.
    preprocessing : {"caffe", "tf", "torch", "none"}
        How it wants them, see `pretrained.input_convention`.
    file : str
        Name of its file of weights.
    """

    name: str
    n_parameters: int
    side: int
    preprocessing: str
    file: str

    @property
    def ships(self) -> bool:
        """Whether it comes with the package."""
        return self.name in NETWORKS

    @property
    def path(self) -> Path:
        """Where its weights are, or will be once Keras has downloaded them."""
        return shipped_file(self.file) if self.ships else weights_folder() / self.file

    @property
    def is_here(self) -> bool:
        """Whether they are there."""
        return self.path.is_file()

    @property
    def megabytes(self) -> float:
        """Size of its file, 10^6 bytes: as it is, or else 4 bytes a parameter, to which the names of its layers add a little."""
        return (self.path.stat().st_size if self.is_here else 4 * self.n_parameters) / 1e6


def weights_folder() -> Path:
    """Find the folder where Keras keeps the weights it downloads, by the rule of `keras.utils.get_file`."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    # What cannot be written to is not even read.
    unusable = home.exists() and not os.access(home, os.W_OK)
    return (Path("/tmp/.keras") if unusable else home) / "models"


#: What ships first, then keras.applications by name. Parameters are those of the networks as Keras 3.15 builds them (they are also in the
#: table of https://keras.io/api/applications), files those it asks `get_file` for.
OFFERS = tuple(
    Offer(*row)
    for row in (
        ("mini-vgg16", 2_600_482, 112, "caffe", "mini-vgg16.keras"),
        ("mini-resnet", 1_181_650, 112, "caffe", "mini-resnet.keras"),
        ("convnextbase", 88_591_464, 224, "none", "convnext_base.h5"),
        ("convnextlarge", 197_767_336, 224, "none", "convnext_large.h5"),
        ("convnextsmall", 50_223_688, 224, "none", "convnext_small.h5"),
        ("convnexttiny", 28_589_128, 224, "none", "convnext_tiny.h5"),
        ("convnextxlarge", 350_196_968, 224, "none", "convnext_xlarge.h5"),
        ("densenet121", 8_062_504, 224, "torch", "densenet121_weights_tf_dim_ordering_tf_kernels.h5"),
        ("densenet169", 14_307_880, 224, "torch", "densenet169_weights_tf_dim_ordering_tf_kernels.h5"),
        ("densenet201", 20_242_984, 224, "torch", "densenet201_weights_tf_dim_ordering_tf_kernels.h5"),
        ("efficientnetb0", 5_330_571, 224, "none", "efficientnetb0.h5"),
        ("efficientnetb1", 7_856_239, 240, "none", "efficientnetb1.h5"),
        ("efficientnetb2", 9_177_569, 260, "none", "efficientnetb2.h5"),
        ("efficientnetb3", 12_320_535, 300, "none", "efficientnetb3.h5"),
        ("efficientnetb4", 19_466_823, 380, "none", "efficientnetb4.h5"),
        ("efficientnetb5", 30_562_527, 456, "none", "efficientnetb5.h5"),
        ("efficientnetb6", 43_265_143, 528, "none", "efficientnetb6.h5"),
        ("efficientnetb7", 66_658_687, 600, "none", "efficientnetb7.h5"),
        ("efficientnetv2b0", 7_200_312, 224, "none", "efficientnetv2-b0.h5"),
        ("efficientnetv2b1", 8_212_124, 240, "none", "efficientnetv2-b1.h5"),
        ("efficientnetv2b2", 10_178_374, 260, "none", "efficientnetv2-b2.h5"),
        ("efficientnetv2b3", 14_467_622, 300, "none", "efficientnetv2-b3.h5"),
        ("efficientnetv2l", 119_027_848, 480, "none", "efficientnetv2-l.h5"),
        ("efficientnetv2m", 54_431_388, 480, "none", "efficientnetv2-m.h5"),
        ("efficientnetv2s", 21_612_360, 384, "none", "efficientnetv2-s.h5"),
        ("inceptionresnetv2", 55_873_736, 299, "tf", "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5"),
        ("inceptionv3", 23_851_784, 299, "tf", "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"),
        ("mobilenet", 4_253_864, 224, "tf", "mobilenet_1_0_224_tf.h5"),
        ("mobilenetv2", 3_538_984, 224, "tf", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"),
        ("mobilenetv3large", 5_507_432, 224, "none", "weights_mobilenet_v3_large_224_1.0_float.h5"),
        ("mobilenetv3small", 2_554_968, 224, "none", "weights_mobilenet_v3_small_224_1.0_float.h5"),
        ("nasnetlarge", 88_949_818, 331, "tf", "nasnet_large.h5"),
        ("nasnetmobile", 5_326_716, 224, "tf", "nasnet_mobile.h5"),
        ("resnet101", 44_707_176, 224, "caffe", "resnet101_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet101v2", 44_675_560, 224, "tf", "resnet101v2_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet152", 60_419_944, 224, "caffe", "resnet152_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet152v2", 60_380_648, 224, "tf", "resnet152v2_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet50", 25_636_712, 224, "caffe", "resnet50_weights_tf_dim_ordering_tf_kernels.h5"),
        ("resnet50v2", 25_613_800, 224, "tf", "resnet50v2_weights_tf_dim_ordering_tf_kernels.h5"),
        ("vgg16", 138_357_544, 224, "caffe", "vgg16_weights_tf_dim_ordering_tf_kernels.h5"),
        ("vgg19", 143_667_240, 224, "caffe", "vgg19_weights_tf_dim_ordering_tf_kernels.h5"),
        ("xception", 22_910_480, 299, "tf", "xception_weights_tf_dim_ordering_tf_kernels.h5"),
    )
)
