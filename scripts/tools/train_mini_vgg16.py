"""Train the small networks that ship with the package: `mini-vgg16`, and the judge `mini-resnet`.

IMAGES is a tree with one folder of photographs a class, named by its wnid. The last fifth of each class (sorted by name) is held out;
it is never seen while training, and the accuracy in the card is measured on it. Batch normalisation steadies the training and is folded
into the convolutions at the end, so what is saved are plain convolutions. With --teacher the network also learns from another network
what that one sees in each picture: its scores (Hinton 2015) and two of its feature maps (FitNets, Romero 2015). With --epsilon half of
the pictures are attacked in the later part of the training (one step from a random start, Wong 2020): a network that small changes
cannot fool asks for pictures that look like something (Santurkar 2019).

The state is written after every epoch, so the run can be stopped and continued by the same command. A GPU is used where TensorFlow
finds one. The output folder receives NAME.keras (float16), NAME.json (its input convention) and NAME.md (its card).

    python scripts/tools/train_mini_vgg16.py photos --teacher squeezenet.keras -o out/mini-vgg16
    python scripts/tools/train_mini_vgg16.py photos --network mini-resnet -o out/mini-resnet
"""

import argparse
import json
import math
import os
import shlex
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from mini_networks import ABOUT, NETWORKS, SIZE, fold

import stochdeconv as sd
from stochdeconv import backend
from stochdeconv.files import write_atomically
from stochdeconv.images.files import load_image
from stochdeconv.images.folders import find_class_folders, find_images, hold_out
from stochdeconv.networks.classes import find_class, imagenet_class_names
from stochdeconv.networks.conventions import IMAGENET_MEAN_BGR
from stochdeconv.networks.image_model import ImageModel

# Side at which photographs wait in memory: crops of 0.3 to 1 of their area come out at about SIZE.
CACHED_SIZE = 144
# The teacher's convolutions have their accuracy at larger pictures than the pupil's.
TEACHER_SIZE = 160
BATCH_SIZE = 64
PEAK_LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.05, 0.05
LABEL_SMOOTHING = 0.1
TEMPERATURE = 2.0
# An attack costs as much as a step, and what the first epochs learn is not yet worth attacking.
ATTACKED_FROM = 0.4


# The photographs


def split(folders: list[Path]) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Photographs with their class's number: those to train on, and those held out."""
    parts: tuple[list, list] = ([], [])
    for number, folder in enumerate(folders):
        for part, paths in zip(parts, hold_out(find_images(folder)), strict=True):
            part.extend((path, number) for path in paths)
    return parts


def batches(photographs: list[tuple[Path, int]], *, seed: int) -> tf.data.Dataset:
    """Batches of changed photographs (float32 RGB in [0, 1]) with their class numbers; files are read once."""

    def read(path: tf.Tensor) -> tf.Tensor:
        image = load_image(path.numpy().decode(), (CACHED_SIZE, CACHED_SIZE))
        return tf.convert_to_tensor(np.rint(image * 255).astype(np.uint8))

    def decode(path, label):
        image = tf.py_function(read, [path], tf.uint8)
        return tf.ensure_shape(image, (CACHED_SIZE, CACHED_SIZE, 3)), label

    paths, labels = zip(*photographs, strict=True)
    in_order = (
        tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], list(labels)))
        .map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        .cache()
        .shuffle(len(paths), seed=seed)
        .batch(BATCH_SIZE, drop_remainder=True)
    )
    # Each batch with random numbers of its own: in whatever order the threads come, the seed decides.
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    return tf.data.Dataset.zip(in_order, seeds).map(augment, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def augment(batch: tuple[tf.Tensor, tf.Tensor], seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Crop, mirror and recolour a batch: 0.3 to 1 of the area, aspect 3:4 to 4:3, brightness, contrast and saturation."""
    photographs, labels = batch
    n = tf.shape(photographs)[0]
    draws = iter(tf.unstack(tf.random.stateless_uniform((8, n), seed)))

    def drawn(low: float, high: float) -> tf.Tensor:
        return low + (high - low) * next(draws)

    area, aspect = drawn(0.3, 1.0), tf.exp(drawn(-math.log(4 / 3), math.log(4 / 3)))
    height, width = tf.minimum(tf.sqrt(area / aspect), 1.0), tf.minimum(tf.sqrt(area * aspect), 1.0)
    top, left = drawn(0.0, 1.0) * (1 - height), drawn(0.0, 1.0) * (1 - width)
    mirrored = drawn(0.0, 1.0) < 0.5
    # A box whose left lies right of its right comes out mirrored.
    first, last = tf.where(mirrored, left + width, left), tf.where(mirrored, left, left + width)
    boxes = tf.stack([top, first, top + height, last], axis=1)
    images = tf.image.crop_and_resize(photographs, boxes, tf.range(n), (SIZE, SIZE)) / 255.0

    def each(values: tf.Tensor) -> tf.Tensor:
        return values[:, None, None, None]

    gray = tf.reduce_mean(images, axis=-1, keepdims=True)
    images = gray + (images - gray) * each(drawn(0.4, 1.6))
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    images = mean + (images - mean) * each(drawn(0.6, 1.4)) + each(drawn(-0.15, 0.15))
    return tf.clip_by_value(images, 0.0, 1.0), labels


# The training


class Training(keras.Model):
    """A network with all that only its training needs.

    Parameters
    ----------
    network : keras.Model
        With batch normalisation; images minus ImageNet's mean, BGR, go in, class scores come out.
    teacher : ImageModel or None
        What it sees is learned too.
    epsilon : float
        Radius of the attack: Euclidean norm of what is added to an image in [0, 1]; 0: none.
    attacked_from : int
        Step from which images are attacked.
    """

    def __init__(self, network: keras.Model, teacher: ImageModel | None, *, epsilon: float, attacked_from: int):
        super().__init__(name="training")
        self.network, self.epsilon, self.attacked_from = network, epsilon, attacked_from
        self.accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.forward, self.pairs = None, {}
        outputs = {"scores": network.output}
        if teacher is not None:
            self.pairs, outputs = distilled(network, teacher, outputs)
            self.forward = teacher.forward(["logits", *self.pairs.values()], dtype=teacher.dtype)
        self.pupil = keras.Model(network.input, outputs)
        self.built = True

    def call(self, images, training=False):
        """Class scores of images in [0, 1]."""
        return self.pupil(preprocess(images), training=training)["scores"]

    def train_step(self, data):
        """Take one step of the optimizer."""
        images, labels = data
        seen_by_teacher = None
        if self.forward is not None:
            larger = tf.image.resize(images, (TEACHER_SIZE, TEACHER_SIZE))
            seen_by_teacher = {name: tf.stop_gradient(value) for name, value in self.forward(larger).items()}
        if self.epsilon:
            images = self.half_attacked(images, labels)
        with tf.GradientTape() as tape:
            outputs = self.pupil(preprocess(images), training=True)
            loss = classification_loss(labels, outputs["scores"])
            if seen_by_teacher is not None:
                loss += distillation_loss(seen_by_teacher["logits"], outputs["logits"])
                loss += sum(feature_loss(seen_by_teacher[theirs], outputs[ours]) for ours, theirs in self.pairs.items())
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        self.mean_loss.update_state(loss)
        self.accuracy.update_state(labels, outputs["scores"])
        return {"loss": self.mean_loss.result(), "accuracy": self.accuracy.result()}

    def half_attacked(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Attack the first half of a batch, once it is time; the other keeps the network good at pictures as they are."""
        half = BATCH_SIZE // 2
        return tf.cond(
            tf.cast(self.optimizer.iterations, tf.int64) >= self.attacked_from,
            lambda: tf.concat([self.attacked(images[:half], labels[:half]), images[half:]], axis=0),
            lambda: images,
        )

    def attacked(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Add what raises the loss most, within `epsilon`, from a random start in one step."""
        start = tf.random.normal(tf.shape(images))
        start *= self.epsilon * tf.random.uniform((tf.shape(images)[0], 1, 1, 1)) / norm(start)
        with tf.GradientTape() as tape:
            tape.watch(start)
            scores = self.pupil(preprocess(images + start), training=False)["scores"]
            loss = classification_loss(labels, scores)
        gradient = tape.gradient(loss, start)
        # Wong 2020: steps of 1.25 radii, then back into the ball.
        added = start + 1.25 * self.epsilon * gradient / (norm(gradient) + 1e-12)
        added *= tf.minimum(1.0, self.epsilon / norm(added))
        return tf.stop_gradient(tf.clip_by_value(images + added, 0.0, 1.0))


def distilled(network: keras.Model, teacher: ImageModel, outputs: dict) -> tuple[dict, dict]:
    """Pair the ends of the last two blocks with the teacher's layers, and add the heads that are compared.

    Returns
    -------
    pairs : dict
        Name of a head -> teacher's layer.
    outputs : dict
        With the heads: "logits", and a map for each pair.
    """
    deepest = teacher.default_layers
    pairs = dict(zip(("block4_conv3", "block5_conv3"), (deepest[-min(3, len(deepest))], deepest[-1]), strict=True))
    for ours, theirs in pairs.items():
        ends = network.get_layer(f"{ours}_bn").output
        outputs[ours] = layers.Conv2D(teacher.layer_shape(theirs)[-1], 1, name=f"{ours}_of_teacher")(
            keras.ops.relu(ends)
        )
    n_logits = teacher.layer_shape("logits")[-1]
    outputs["logits"] = layers.Dense(n_logits, dtype="float32", name="logits_of_teacher")(
        network.get_layer("fc2").output
    )
    return pairs, outputs


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """BGR in 0..255 minus ImageNet's mean, as VGG16 wants it."""
    return images[..., ::-1] * 255.0 - tf.constant(IMAGENET_MEAN_BGR)


def norm(images: tf.Tensor) -> tf.Tensor:
    """Euclidean norm of each image, (image, 1, 1, 1)."""
    return tf.sqrt(tf.reduce_sum(tf.square(images), axis=(1, 2, 3), keepdims=True))


def classification_loss(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Cross-entropy with smoothed labels."""
    smooth = tf.one_hot(labels, scores.shape[-1]) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / scores.shape[-1]
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, scores))


def distillation_loss(teacher: tf.Tensor, pupil: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence of softened scores, times the squared temperature (Hinton 2015)."""
    teacher, pupil = (tf.nn.log_softmax(scores / TEMPERATURE) for scores in (teacher, pupil))
    return TEMPERATURE**2 * tf.reduce_mean(tf.reduce_sum(tf.exp(teacher) * (teacher - pupil), axis=-1))


def feature_loss(teacher: tf.Tensor, pupil: tf.Tensor) -> tf.Tensor:
    """One minus the cosine between the two maps at each place."""
    teacher = tf.image.resize(teacher, pupil.shape[1:3], antialias=True)
    teacher, pupil = (tf.math.l2_normalize(tf.cast(maps, tf.float32), axis=-1) for maps in (teacher, pupil))
    return 1 - tf.reduce_mean(tf.reduce_sum(teacher * pupil, axis=-1))


# The command


def main() -> None:
    """Read the arguments, train, fold, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="tree with one folder of photographs a class, named by its wnid")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, default="mini-vgg16")
    parser.add_argument("--teacher", help="a network to learn from as well")
    parser.add_argument(
        "--about-teacher",
        default="What the teacher was trained on is not known here: it may have seen them.",
        help="a sentence for the card: what the teacher is, and whether it has seen what is held out",
    )
    parser.add_argument(
        "--recipe", default="", help="what `generate` does otherwise for this network: goes into NAME.json"
    )
    parser.add_argument("--epsilon", type=float, default=0.0, help="radius of the attack; 0: none")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    folders = find_class_folders(arguments.images)
    if len(folders) < 2:
        parser.error(f"'{arguments.images}' is no folder with a folder of photographs for each class")
    classes = [find_class(folder.name, imagenet_class_names()) for folder in folders]
    seen, held_out = split(folders)
    if len(seen) < BATCH_SIZE or len({number for _, number in held_out}) < len(classes):
        parser.error(
            f"there are {len(seen)} photographs to train on; expected at least {BATCH_SIZE}, and 5 of each class"
        )
    print(f"{len(classes)} classes, {len(seen)} photographs to train on, {len(held_out)} held out", flush=True)

    build = NETWORKS[arguments.network]
    network = train(arguments, build, seen, len(classes))

    keras.config.set_dtype_policy("float16")
    plain = build(len(classes), training=False)
    fold(network, plain)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / f"{arguments.network}.keras"
    plain.save(path)
    names = [{"wnid": name.wnid, "label": name.label} for name in classes]
    convention = {"preprocessing": "caffe", "mean": IMAGENET_MEAN_BGR, "recipe": arguments.recipe, "class_names": names}
    write_atomically(path.with_suffix(".json"), (json.dumps(convention, indent=1) + "\n").encode())
    right = measure(sd.load_model(path), held_out)
    card = card_of(arguments, classes, len(seen), right, path.stat().st_size)
    write_atomically(path.with_suffix(".md"), card.encode())
    print(f"top-1 on {len(held_out)} held-out photographs: {np.concatenate(right).mean():.3f}")
    print(path)


def train(arguments: argparse.Namespace, build, seen: list, n_classes: int) -> keras.Model:
    """Train until the last epoch, from the last state that was written."""
    state = arguments.output / "state"
    refuse_another_run(state, arguments, n_seen=len(seen))
    keras.utils.set_random_seed(arguments.seed)
    # Where bfloat16 is emulated the tests' two runs took ten times as long.
    keras.config.set_dtype_policy("mixed_bfloat16" if backend.preferred_dtype() == "bfloat16" else "float32")
    steps_an_epoch = len(seen) // BATCH_SIZE
    n_steps = steps_an_epoch * arguments.epochs
    teacher = sd.load_model(arguments.teacher) if arguments.teacher else None
    training = Training(
        build(n_classes, training=True),
        teacher,
        epsilon=arguments.epsilon,
        attacked_from=int(ATTACKED_FROM * n_steps),
    )
    n_warm = int(WARM_UP * n_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        PEAK_LEARNING_RATE / 100, n_steps - n_warm, warmup_target=PEAK_LEARNING_RATE, warmup_steps=n_warm
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # On processors a step through XLA took 1.5 times as long, of attacked images 3 times; its compilation 8 seconds more.
    training.compile(optimizer=optimizer, jit_compile=bool(tf.config.list_physical_devices("GPU")))
    optimizer.build(training.trainable_variables)
    saved = state / "latest.weights.h5"
    if saved.exists():
        training.load_weights(saved)
    n_done = int(optimizer.iterations) // steps_an_epoch
    # Another order and other crops in every part of a run.
    seed = arguments.seed + n_done
    tf.random.set_seed(seed)
    training.fit(
        batches(seen, seed=seed),
        initial_epoch=n_done,
        epochs=arguments.epochs,
        callbacks=[SavesState(saved)],
        shuffle=False,
        verbose="auto" if sys.stdout.isatty() else 2,
    )
    return training.network


class SavesState(keras.callbacks.Callback):
    """Keeps weights and optimizer after every epoch, in one file that is replaced whole; the optimizer's steps tell the epoch."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        """Write the state beside the last one, then put it in its place."""
        written = self.path.with_name(f"next_{self.path.name}")
        self.model.save_weights(written, overwrite=True)
        os.replace(written, self.path)


def refuse_another_run(state: Path, arguments: argparse.Namespace, *, n_seen: int) -> None:
    """End the program where the state is another run's."""
    own = {name: getattr(arguments, name) for name in ("network", "epsilon", "epochs", "seed")}
    own |= {"teacher": arguments.teacher and Path(arguments.teacher).name, "photographs": n_seen}
    path = state / "settings.json"
    if not path.exists():
        write_atomically(path, (json.dumps(own, indent=1) + "\n").encode())
        return
    earlier = json.loads(path.read_text())
    different = [f"{name} {earlier.get(name)}, not {own[name]}" for name in own if earlier.get(name) != own[name]]
    if different:
        raise SystemExit(f"{state} belongs to another run ({'; '.join(different)}): choose another -o, or remove it")


def measure(model: ImageModel, held_out: list[tuple[Path, int]]) -> list[np.ndarray]:
    """For each class, which of its held-out photographs are named rightly."""
    right: list[list[bool]] = [[] for _ in model.class_names]
    for start in range(0, len(held_out), BATCH_SIZE):
        part = held_out[start : start + BATCH_SIZE]
        images = np.stack([load_image(path, model.input_size) for path, _ in part])
        for (_, number), scores in zip(part, model.logits(images, batch_size=BATCH_SIZE), strict=True):
            right[number].append(int(scores.argmax()) == number)
    return [np.array(of_class) for of_class in right]


def card_of(arguments: argparse.Namespace, classes: list, n_seen: int, right: list[np.ndarray], n_bytes: int) -> str:
    """Write what is to be known of the network."""
    name = arguments.network
    n_held_out = sum(map(len, right))
    data = f"{n_seen:,} photographs of the {len(classes)} classes of Imagenette (a part of ImageNet); learned from their labels"
    if arguments.teacher:
        data += f", and from what the network `{Path(arguments.teacher).stem}` sees in them"
    if arguments.epsilon:
        data += (
            f". From {ATTACKED_FROM:.0%} of the training on, half of the pictures were attacked (Euclidean norm up to "
            f"{arguments.epsilon} on pictures in [0, 1])"
        )
    teachers = f" {arguments.about_teacher}" if arguments.teacher else ""
    what = f"{ABOUT[name]}; {n_bytes / 1e6:.1f} MB, float16"
    rows = "\n".join(
        f"| {of.label} | {of.wnid} | {share.mean():.2f} |" for of, share in zip(classes, right, strict=True)
    )
    options = {"network": name, "teacher": None, "about-teacher": None}
    if arguments.teacher:
        options |= {"teacher": Path(arguments.teacher).name, "about-teacher": arguments.about_teacher}
    options |= {
        "recipe": arguments.recipe or None,
        "epsilon": arguments.epsilon or None,
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "output": "out",
    }
    words = [word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))]
    command = shlex.join(["python", "scripts/tools/train_mini_vgg16.py", "IMAGES", *words])
    return f"""# {name}

{what}. Input: pictures of {SIZE} x {SIZE}, as BGR in 0..255 minus ImageNet's mean.

**Data.** {data}.
The last fifth of each class ({n_held_out:,} photographs, sorted by name) was never seen in training.{teachers}

**Licence.** The weights are given under the licence of this project. ImageNet's photographs are for research; none is in this package.

**Accuracy** on the held-out photographs, top-1: **{np.concatenate(right).mean():.3f}**

| class | wnid | top-1 |
|---|---|---|
{rows}

**Made by** (seed {arguments.seed}; sums in another order give slightly other weights):

    {command}
"""


if __name__ == "__main__":
    main()
