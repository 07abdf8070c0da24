"""Which networks can be had by a word, how large they are, how they want their input, and whether they are on this machine already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stochdeconv.assets import JUDGE, NETWORK, NETWORKS, shipped_file

# A file of weights holds 4 bytes for each parameter, and a little more; what is shorter was not downloaded to its end.
_BYTES_A_PARAMETER, _WHOLE = 4, 0.95


@dataclass(frozen=True)
class Named:
    """A network that is had by a word.

    Attributes
    ----------
    n_parameters : int
    megabytes : int
        Of what is downloaded or, of what ships, of its file.
    preprocessing : {"caffe", "tf", "torch", "none"}
        How it wants its input, see `conventions.input_convention`.
    file : str
        Name of the file with its weights: in Keras's cache, or in the package.
    side : int
        Of the images it takes, pixels.
    """

    n_parameters: int
    megabytes: int
    preprocessing: str
    file: str
    side: int = 224

    @property
    def ships(self) -> bool:
        """Whether it came with the package."""
        return self.file.removesuffix(".keras") in NETWORKS

    @property
    def path(self) -> Path:
        """Where its weights are, or will be once they are downloaded."""
        return shipped_file(self.file) if self.ships else cache_folder() / self.file

    @property
    def is_here(self) -> bool:
        """Whether its weights are on this machine, all of them."""
        try:
            n_bytes = self.path.stat().st_size
        except OSError:
            return False
        return self.ships or n_bytes >= _WHOLE * _BYTES_A_PARAMETER * self.n_parameters


def cache_folder() -> Path:
    """Find the folder where Keras keeps the weights it has downloaded."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


_KERNELS = "{}_weights_tf_dim_ordering_tf_kernels.h5"

#: What ships with the package, by its word.
SHIPPED = {
    NETWORK: Named(2_600_482, 5, "caffe", f"{NETWORK}.keras", 112),
    JUDGE: Named(1_181_650, 2, "caffe", f"{JUDGE}.keras", 112),
}
#: The networks of keras.applications by their words. Megabytes are those of the table on https://keras.io/api/applications/; it leaves
#: the two of MobileNetV3 out and has 29 for EfficientNetB0: theirs are 4 bytes a parameter. Parameters are counted by Keras and agree with
#: that table; files are named in keras/src/applications.
APPLICATIONS = {
    "convnextbase": Named(88_591_464, 339, "none", "convnext_base.h5"),
    "convnextlarge": Named(197_767_336, 755, "none", "convnext_large.h5"),
    "convnextsmall": Named(50_223_688, 192, "none", "convnext_small.h5"),
    "convnexttiny": Named(28_589_128, 109, "none", "convnext_tiny.h5"),
    "convnextxlarge": Named(350_196_968, 1310, "none", "convnext_xlarge.h5"),
    "densenet121": Named(8_062_504, 33, "torch", _KERNELS.format("densenet121")),
    "densenet169": Named(14_307_880, 57, "torch", _KERNELS.format("densenet169")),
    "densenet201": Named(20_242_984, 80, "torch", _KERNELS.format("densenet201")),
    "efficientnetb0": Named(5_330_571, 21, "none", "efficientnetb0.h5"),
    "efficientnetb1": Named(7_856_239, 31, "none", "efficientnetb1.h5", 240),
    "efficientnetb2": Named(9_177_569, 36, "none", "efficientnetb2.h5", 260),
    "efficientnetb3": Named(12_320_535, 48, "none", "efficientnetb3.h5", 300),
    "efficientnetb4": Named(19_466_823, 75, "none", "efficientnetb4.h5", 380),
    "efficientnetb5": Named(30_562_527, 118, "none", "efficientnetb5.h5", 456),
    "efficientnetb6": Named(43_265_143, 166, "none", "efficientnetb6.h5", 528),
    "efficientnetb7": Named(66_658_687, 256, "none", "efficientnetb7.h5", 600),
    "efficientnetv2b0": Named(7_200_312, 29, "none", "efficientnetv2-b0.h5"),
    "efficientnetv2b1": Named(8_212_124, 34, "none", "efficientnetv2-b1.h5", 240),
    "efficientnetv2b2": Named(10_178_374, 42, "none", "efficientnetv2-b2.h5", 260),
    "efficientnetv2b3": Named(14_467_622, 59, "none", "efficientnetv2-b3.h5", 300),
    "efficientnetv2l": Named(119_027_848, 479, "none", "efficientnetv2-l.h5", 480),
    "efficientnetv2m": Named(54_431_388, 220, "none", "efficientnetv2-m.h5", 480),
    "efficientnetv2s": Named(21_612_360, 88, "none", "efficientnetv2-s.h5", 384),
    "inceptionresnetv2": Named(55_873_736, 215, "tf", _KERNELS.format("inception_resnet_v2"), 299),
    "inceptionv3": Named(23_851_784, 92, "tf", _KERNELS.format("inception_v3"), 299),
    "mobilenet": Named(4_253_864, 16, "tf", "mobilenet_1_0_224_tf.h5"),
    "mobilenetv2": Named(3_538_984, 14, "tf", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"),
    "mobilenetv3large": Named(5_507_432, 22, "none", "weights_mobilenet_v3_large_224_1.0_float.h5"),
    "mobilenetv3small": Named(2_554_968, 10, "none", "weights_mobilenet_v3_small_224_1.0_float.h5"),
    "nasnetlarge": Named(88_949_818, 343, "tf", "nasnet_large.h5", 331),
    "nasnetmobile": Named(5_326_716, 23, "tf", "nasnet_mobile.h5"),
    "resnet101": Named(44_707_176, 171, "caffe", _KERNELS.format("resnet101")),
    "resnet101v2": Named(44_675_560, 171, "tf", _KERNELS.format("resnet101v2")),
    "resnet152": Named(60_419_944, 232, "caffe", _KERNELS.format("resnet152")),
    "resnet152v2": Named(60_380_648, 232, "tf", _KERNELS.format("resnet152v2")),
    "resnet50": Named(25_636_712, 98, "caffe", _KERNELS.format("resnet50")),
    "resnet50v2": Named(25_613_800, 98, "tf", _KERNELS.format("resnet50v2")),
    "vgg16": Named(138_357_544, 528, "caffe", _KERNELS.format("vgg16")),
    "vgg19": Named(143_667_240, 549, "caffe", _KERNELS.format("vgg19")),
    "xception": Named(22_910_480, 88, "tf", _KERNELS.format("xception"), 299),
}
