"""The judge's feature is found in any classifier, and its class activation maps add up to its logits."""

import keras
import numpy as np
import pytest
from keras import layers

from stochdeconv.errors import ModelError
from stochdeconv.evaluation.judge import Judge, find_feature_source, in_top
from stochdeconv.evaluation.measure import measure
from stochdeconv.images.files import save_png
from stochdeconv.networks.image_model import load_model

SIZE = (12, 12)
NAMES = [{"wnid": "n00000001", "label": "cat"}, {"wnid": "n00000002", "label": "dog"}, {"label": "crane"}]


def network(head):
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="map")(image)
    return keras.Model(image, head(x))


def dense_after_pooling(x):
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return layers.Dense(3, activation="softmax", name="classes", bias_initializer="normal")(x)


def convolution_then_pooling(x):
    x = layers.Conv2D(3, 1, name="classes", bias_initializer="normal")(layers.Dropout(0.5)(x))
    return layers.Softmax()(layers.GlobalAveragePooling2D()(x))


def convolution_after_pooling(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(3, 1, name="classes", bias_initializer="normal")(x)
    return layers.Softmax()(layers.Flatten()(x))


def penalty_before_pooling(x):
    x = layers.GlobalAveragePooling2D()(layers.ActivityRegularization(0.1)(x))
    return layers.Dense(3, activation="softmax", name="classes", bias_initializer="normal")(x)


HEADS = [dense_after_pooling, convolution_then_pooling, convolution_after_pooling, penalty_before_pooling]


@pytest.mark.parametrize("head", HEADS)
def test_feature_is_the_averaged_map_and_its_class_maps_average_to_the_logits(head):
    model = network(head)
    judge = Judge(load_model(model, preprocessing="none", class_names=NAMES))
    assert (judge.source.feature_layer, judge.source.class_layer) == ("map", "classes")
    images = np.random.default_rng(0).random((3, *SIZE, 3)).astype(np.float32)
    seen = judge.look(images)
    assert seen.feature_maps.shape == (3, *SIZE, 6)
    np.testing.assert_allclose(seen.features, seen.feature_maps.mean(axis=(1, 2)), rtol=1e-5)
    bias = np.asarray(model.get_layer("classes").bias)
    for index in range(3):
        maps = seen.feature_maps @ judge.class_weights(index)
        np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias[index], seen.logits[:, index], rtol=1e-4, atol=1e-5)


def test_behind_a_flattened_map_there_is_a_feature_but_no_class_map():
    def head(x):
        x = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten()(x))
        return layers.Dense(3, activation="softmax", name="classes")(x)

    judge = Judge(load_model(network(head), preprocessing="none", class_names=NAMES))
    assert judge.source.feature_layer == "hidden"
    seen = judge.look(np.zeros((2, *SIZE, 3), np.float32))
    assert seen.features.shape == (2, 5)
    assert seen.feature_maps is None
    assert judge.class_weights(0) is None


def test_a_last_convolution_wider_than_one_position_has_no_class_map():
    def head(x):
        return layers.Softmax()(layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, name="classes")(x)))

    source = find_feature_source(load_model(network(head), preprocessing="none"))
    assert source.feature_layer == "map"
    assert source.class_weights is None


def test_a_network_without_weights_is_no_judge():
    image = keras.Input((*SIZE, 3))
    with pytest.raises(ModelError, match="no weighted layer"):
        find_feature_source(
            load_model(keras.Model(image, layers.GlobalAveragePooling2D()(image)), preprocessing="none")
        )


def test_classes_are_matched_by_wnid_and_by_label_only_without_one():
    judge = Judge(load_model(network(dense_after_pooling), preprocessing="none", class_names=NAMES))
    assert judge.class_index(wnid="n00000002", label="whatever") == 1
    assert judge.class_index(wnid="n99999999", label="dog") is None  # another dog
    assert judge.class_index(wnid=None, label="crane") == 2
    assert judge.class_index(wnid=None, label=None) is None


def test_top_k():
    logits = np.array([[0.0, 3.0, 2.0, 1.0], [5.0, 0.0, 1.0, 2.0]])
    assert in_top(logits, 2, k=1).tolist() == [0, 0]
    assert in_top(logits, 2, k=2).tolist() == [1, 0]
    assert in_top(logits, 2, k=3).tolist() == [1, 1]


def test_maps_of_both_sides_of_a_single_sigmoid():
    def head(x):
        return layers.Dense(1, activation="sigmoid", name="classes")(layers.GlobalAveragePooling2D()(x))

    judge = Judge(load_model(network(head), preprocessing="none", class_names=["cat", "dog"]))
    seen = judge.look(np.random.default_rng(0).random((3, *SIZE, 3)).astype(np.float32))
    for index in range(2):
        maps = seen.feature_maps @ judge.class_weights(index)
        np.testing.assert_allclose(maps.mean(axis=(1, 2)), seen.logits[:, index], rtol=1e-4, atol=1e-5)


def average_of_heads_that_disagree(x):
    """One is sure of the first class, two prefer the second: the mean score is the first's, the mean probability the second's."""
    x = layers.GlobalAveragePooling2D()(x)
    biases = ([20.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0])
    heads = [
        layers.Dense(3, activation="softmax", name=f"head_{i}", bias_initializer=keras.initializers.Constant(bias))(x)
        for i, bias in enumerate(biases)
    ]
    return layers.Average(name="classes")(heads)


def test_classes_are_ranked_as_the_network_itself_does():
    model = network(average_of_heads_that_disagree)
    for head in model.layers[-4:-1]:
        head.kernel.assign(head.kernel * 1e-3)
    judge = Judge(load_model(model, preprocessing="none", class_names=NAMES))
    images = np.random.default_rng(0).random((4, *SIZE, 3)).astype(np.float32)
    own = np.asarray(model(images * 255))
    assert (own.argmax(axis=1) == 1).all() and (judge.model.logits(images).argmax(axis=1) == 0).all()
    seen = judge.look(images)
    assert in_top(seen.logits, 1, k=1).all() and not in_top(seen.logits, 0, k=1).any()
    np.testing.assert_array_equal(seen.logits.argsort(axis=1), own.argsort(axis=1))


@pytest.mark.parametrize(
    "head",
    [
        *HEADS,
        lambda x: layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1, activation="softmax", name="classes")(x)),
        lambda x: layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1, activation="sigmoid", name="classes")(x)),
    ],
    ids=["dense", "convolution", "keepdims", "penalty", "average of softmaxes", "average of sigmoids"],
)
def test_a_picture_is_given_the_probability_that_the_judge_itself_gives_it(head, tmp_path):
    model = network(head)
    model.get_layer("classes").kernel.assign(model.get_layer("classes").kernel / 20.0)  # not sure of itself
    judge = Judge(load_model(model, preprocessing="none", class_names=NAMES))
    images = np.random.default_rng(0).random((4, *SIZE, 3)).astype(np.float32)
    for number, image in enumerate(images):
        save_png(tmp_path / f"{number}.png", image)
    measured = measure(sorted(tmp_path.iterdir()), judge, size=SIZE, class_index=None, tick=lambda n: None)
    own = np.asarray(model(np.round(images * 255)))
    labels = [name["label"] for name in NAMES]
    for row, picture in zip(own, judge.describe_pictures(measured, None), strict=True):
        assert picture["judge_label"] == labels[row.argmax()]
        assert picture["judge_probability"] == pytest.approx(row[labels.index(picture["judge_label"])], rel=1e-4)
