"""Networks from keras.applications, weights files and .keras files; and what is said of files that do not fit."""

from __future__ import annotations

import json
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from stochdeconv.errors import InputError, MissingInputError, ModelError
from stochdeconv.networks import pretrained
from stochdeconv.networks.catalogue import APPLICATIONS
from stochdeconv.networks.image_model import load_model

# Keras 3.15 reads its own variables in a way NumPy 2.4 warns about, when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def write_official_layout(model, path):
    """Write weights as the files of keras-applications hold them: groups named after the layers, in order of the network."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}_{kind}_1:0" for kind, _ in zip("Wbcd", layer.weights, strict=False)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            # Keras's old order: what is trained comes first.
            for name, weight in zip(names, layer.trainable_weights + layer.non_trainable_weights, strict=True):
                values = rng.random(weight.shape, dtype=np.float32) - 0.5
                weight.assign(values)
                group.create_dataset(name, data=values)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with weights of MobileNet in every layout, and the models they were taken from."""
    folder = tmp_path_factory.mktemp("weights")
    whole = keras.applications.MobileNet(weights=None)
    headless = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(224, 224, 3))
    write_official_layout(whole, folder / "mobilenet_1_0_224_tf.h5")
    write_official_layout(headless, folder / "mobilenet_1_0_224_tf_no_top.h5")
    whole.save_weights(folder / "whole.weights.h5")
    headless.save_weights(folder / "headless.weights.h5")
    hashes = [load_model(model, preprocessing="tf").weights_hash for model in (whole, headless)]
    return folder, *hashes


@pytest.mark.parametrize("name", ["mobilenet_1_0_224_tf.h5", "whole.weights.h5"])
def test_weights_with_the_classifier(files, name):
    folder, whole, _ = files
    network = load_model("mobilenet", weights=folder / name)
    assert network.weights_hash == whole
    assert (network.name, network.source, network.input_size) == ("mobilenet", "mobilenet", (224, 224))
    assert network.class_index("church") == 497
    assert network.preprocessing == {"preprocessing": "tf"}


@pytest.mark.parametrize("name", ["mobilenet_1_0_224_tf_no_top.h5", "headless.weights.h5"])
def test_weights_without_the_classifier(files, name):
    folder, _, headless = files
    network = load_model("MobileNet", weights=str(folder / name))
    assert network.weights_hash == headless
    assert network.input_size == (224, 224)
    assert network.class_names == ()
    with pytest.raises(ModelError, match="no class scores"):
        network.layer_shape("logits")


def test_the_layout_is_told_by_content_not_by_name(files, tmp_path):
    folder, whole, _ = files
    for source, name in [
        ("mobilenet_1_0_224_tf.h5", "a.weights.h5"),
        ("whole.weights.h5", "b.h5"),
        ("whole.weights.h5", "c"),
    ]:
        (tmp_path / name).symlink_to(folder / source)
        assert load_model("mobilenet", weights=tmp_path / name).weights_hash == whole


def test_vgg16_from_the_official_layout(tmp_path):
    headless = keras.applications.VGG16(weights=None, include_top=False)
    path = write_official_layout(headless, tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
    network = load_model("vgg16", weights=path)
    assert network.weights_hash == load_model(headless, preprocessing="caffe").weights_hash
    assert network.preprocessing == {"preprocessing": "caffe", "mean": [103.939, 116.779, 123.68]}
    assert network.default_layers[-1] == "block5_conv3"
    assert network.layer_shape("block5_conv3_linear") == (14, 14, 512)


def test_weights_that_do_not_fit_are_told(files, tmp_path):
    folder, _, _ = files
    for name in ("mobilenet_1_0_224_tf.h5", "whole.weights.h5"):
        with pytest.raises(ModelError, match="do not fit 'mobilenetv2', with or without its classifier: "):
            load_model("mobilenetv2", weights=folder / name)
    incomplete = tmp_path / "incomplete.weights.h5"
    incomplete.write_bytes((folder / "whole.weights.h5").read_bytes())
    with h5py.File(incomplete, "r+") as file:
        del file["layers/depthwise_conv2d_3/vars/0"]
    with pytest.raises(ModelError, match="do not fit 'mobilenet'"):
        load_model("mobilenet", weights=incomplete)


def test_weights_that_leave_a_layer_as_it_was_are_told(monkeypatch, tmp_path):
    # Keras warns, at most, of a layer a .weights.h5 has nothing for.
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="first"), layers.Dense(2, name="second")])
    monkeypatch.setattr(model, "load_weights", lambda path: model.layers[0].set_weights([np.ones((4, 2)), np.ones(2)]))
    assert "/second/kernel' in it" in pretrained._load_all_weights(model, tmp_path / "any.h5")


def test_broken_weights_files_are_told(files, tmp_path):
    folder, _, _ = files
    content = (folder / "mobilenet_1_0_224_tf.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(content[: len(content) // 2])
    (tmp_path / "page.h5").write_text("<html>not found</html>")
    (tmp_path / "empty.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=r"half\.h5 cannot be read: .*truncated"):
        load_model("mobilenet", weights=tmp_path / "half.h5")
    for name in ("page.h5", "empty.h5"):
        with pytest.raises(ModelError, match=f"{name} is no HDF5 file"):
            load_model("mobilenet", weights=tmp_path / name)
    with pytest.raises(MissingInputError, match=r"cannot read the weights .*nowhere\.h5"):
        load_model("mobilenet", weights=tmp_path / "nowhere.h5")
    with pytest.raises(MissingInputError, match="cannot read the weights"):
        load_model("mobilenet", weights=tmp_path)


def test_efficientnet_takes_no_weights_file(files):
    with pytest.raises(ModelError, match="'efficientnetb0' cannot take a weights file"):
        load_model("EfficientNetB0", weights=files[0] / "whole.weights.h5")


# keras.applications


def test_every_application_has_its_own_preprocessing():
    images = np.random.default_rng(0).random((2, 5, 5, 3)).astype(np.float32) * 255
    for word, constructor in pretrained.application_names().items():
        name = getattr(keras.applications, constructor).__module__.rsplit(".", 1)[-1]
        module, mode = getattr(keras.applications, name), APPLICATIONS[word].preprocessing
        expected = (
            images.copy()
            if mode == "none"
            else keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
        )
        np.testing.assert_array_equal(module.preprocess_input(images.copy()), expected, err_msg=constructor)


def test_application_names():
    names = pretrained.application_names()
    assert {"vgg16", "resnet50v2", "mobilenetv3small", "nasnetmobile", "convnexttiny"} <= set(names)
    assert len(names) > 35


def test_an_unknown_name_names_the_closest():
    with pytest.raises(
        ModelError,
        match=r"no network 'vg16'; closest: 'vgg16', 'vgg19'; expected mini-vgg16, mini-resnet, a name of keras\.app",
    ):
        load_model("vg16")


def test_a_download_that_fails_names_the_file_and_the_flag(monkeypatch, tmp_path, capsys):
    url = (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    )

    def offline(weights):
        assert weights == "imagenet"
        print(f"Downloading data from {url}")
        raise Exception(f"URL fetch failure on {url}: None -- [Errno -2] Name or service not known")

    offline.__module__ = keras.applications.VGG16.__module__
    monkeypatch.setattr(keras.applications, "VGG16", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ModelError) as caught:
        load_model("vgg16")
    message = str(caught.value)
    assert message.startswith("cannot get vgg16_weights_tf_dim_ordering_tf_kernels.h5: ")
    assert "weights=vgg16_weights_tf_dim_ordering_tf_kernels.h5" in message
    assert f"({url})" in message
    assert str(tmp_path / "models") in message
    assert "Name or service not known" in message
    assert "\n" not in message
    # Results go to stdout, and only they.
    assert capsys.readouterr().out == ""
    assert sys.stdout is not sys.stderr


def test_a_name_has_its_own_convention():
    with pytest.raises(ModelError, match="how 'vgg16' wants its input is known"):
        load_model("vgg16", preprocessing="tf")


# .keras files


@pytest.fixture
def keras_file(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.save(tmp_path / "tiny.v2.keras")
    return tmp_path / "tiny.v2.keras"


def write_sidecar(path, content):
    path.with_suffix(".json").write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_sidecar_says_how_images_go_in(keras_file):
    (keras_file.parent / "names.json").write_text('["cat", {"wnid": "n02", "label": "dog"}]')
    write_sidecar(keras_file, {"preprocessing": "caffe", "mean": [1, 2, 3], "class_names": "names.json"})
    network = load_model(str(keras_file))
    assert (network.name, network.source) == ("tiny.v2", str(keras_file.resolve()))
    assert network.preprocessing == {"preprocessing": "caffe", "mean": [1.0, 2.0, 3.0]}
    assert network.find_class("n02").index == 1
    assert network.input_size == (8, 8)
    write_sidecar(keras_file, {"preprocessing": "torch", "class_names": ["owl", "elk"]})
    network = load_model(keras_file)
    assert network.preprocessing == {"preprocessing": "torch"}
    assert network.class_index("elk") == 1
    assert load_model(keras_file, preprocessing="none", class_names=["a", "b"]).class_index("b") == 1


def test_a_missing_sidecar_shows_what_to_write(keras_file):
    with pytest.raises(MissingInputError) as caught:
        load_model(keras_file)
    message = str(caught.value)
    assert f"write {keras_file.with_suffix('.json')}" in message
    assert '{"preprocessing": "caffe" | "tf" | "torch" | "none", "mean": [..], "std": [..], "class_names"' in message
    assert load_model(keras_file, preprocessing="tf").preprocessing == {"preprocessing": "tf"}


def test_what_is_no_network_is_not_asked_for_a_sidecar(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    with pytest.raises(ModelError, match="is no readable Keras 3 file"):
        load_model(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        ("{", "is not the JSON sidecar"),
        ("[1]", "is not the sidecar"),
        ({}, "preprocessing is None"),
        ({"preprocessing": "bgr"}, 'expected one of "caffe", "tf", "torch", "none"'),
        ({"preprocessing": ["caffe"]}, "preprocessing is"),
        ({"preprocessing": "caffe", "mean": 3}, "three numbers"),
        ({"preprocessing": "caffe", "means": [1, 2, 3]}, "unknown entry 'means'"),
        ({"preprocessing": "tf", "mean": [1, 2, 3]}, "only goes with"),
        ({"preprocessing": "tf", "class_names": ["a"]}, "2 class scores, but 1 class names"),
        ({"preprocessing": "tf", "class_names": 5}, "must be a list"),
        ({"preprocessing": "tf", "class_names": "nowhere.json"}, r"cannot read the class names .*nowhere\.json"),
    ],
)
def test_a_malformed_sidecar_is_told(keras_file, sidecar, message):
    write_sidecar(keras_file, sidecar)
    with pytest.raises((ModelError, InputError, MissingInputError), match=message):
        load_model(keras_file)


def test_files_that_are_no_keras_files_are_told(keras_file, tmp_path):
    content = keras_file.read_bytes()
    for name, broken in [("cut", content[: len(content) // 2]), ("text", b"hello"), ("empty", b"")]:
        path = tmp_path / f"{name}.keras"
        path.write_bytes(broken)
        write_sidecar(path, {"preprocessing": "tf"})
        with pytest.raises(ModelError, match=f"{name}.keras is no readable Keras 3 file"):
            load_model(path)
    for missing in (tmp_path / "nowhere.keras", str(tmp_path / "nowhere"), tmp_path):
        with pytest.raises(MissingInputError, match="there is no network file"):
            load_model(missing)


class Doubling(layers.Layer):
    def call(self, x):
        return x * 2


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_files_that_need_python_code_are_told(tmp_path):
    for name, layer in [("own", Doubling()), ("lambda", layers.Lambda(lambda x: x * 2))]:
        path = tmp_path / f"{name}.keras"
        keras.Sequential([keras.Input((8, 8, 3)), layer]).save(path)
        write_sidecar(path, {"preprocessing": "tf"})
        with pytest.raises(
            ModelError, match=r"needs Python code that is not in the file.* load it in Python"
        ) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


def test_weights_do_not_go_with_a_file(keras_file):
    with pytest.raises(ModelError, match="has weights already"):
        load_model(keras_file, weights="w.h5")
