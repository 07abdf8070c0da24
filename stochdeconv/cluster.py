"""Many processes, GPUs or machines, by Ray: photographs are measured in shards and images made in batches, wherever there is a worker.

What comes out does not depend on who did it, nor on how many did: shards are put together by `collection.merge`, which gives the bytes
of one pass, and image i depends on (seed, i) and the batch it is in alone. A worker that dies is started again, and does its part again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stochdeconv.assets import NETWORKS
from stochdeconv.errors import ExistingOutputError, InputError, ModelError, SettingsError
from stochdeconv.files import write_atomically
from stochdeconv.interruption import interrupts_held
from stochdeconv.settings import check_count
from stochdeconv.statistics.collection import CollectSettings, list_images, merge
from stochdeconv.statistics.finished import check_finished
from stochdeconv.statistics.spool import is_begun, remove_spool
from stochdeconv.threads import n_processors

if TYPE_CHECKING:
    from stochdeconv.methods.class_images import ClassImages, GenerateSettings
    from stochdeconv.networks.image_model import ImageModel
    from stochdeconv.optimization.results import OptimizationResult
    from stochdeconv.sampling.targets import Targets
    from stochdeconv.statistics.class_statistics import ClassStatistics

Progress = Callable[[int, int, str], None]

#: The address of a cluster that is begun on this machine, and ends with the program.
LOCAL = "local"
# Images of a shard at most: what a worker that dies has done in vain, and a few hundred megabytes (VGG16) on their way to the driver.
_SHARD_IMAGES = 128
_THREADS = "OMP_NUM_THREADS"
# How long a machine of the cluster may take to answer, and workers to start: they may have to download the network.
_KNOCK_SECONDS, _START_SECONDS = 10, 900
# How often a part is tried again when its worker dies.
_RETRIES = 3


@dataclass(frozen=True)
class NetworkSource:
    """How a worker loads the network.

    Attributes
    ----------
    word : str
        As `load_model` takes it; a file has to lie at the same place on every machine.
    weights : str or None
    dtype : str
    prepare : callable or None
        Run first: what registers the code that the network's own layers need.
    """

    word: str
    weights: str | None = None
    dtype: str = "auto"
    prepare: Callable[[], None] | None = None


class _Worker:
    """A process with the network loaded; Ray starts it, and starts it again if it dies."""

    def __init__(self, source: NetworkSource, threads: str | None):
        if threads is None:
            # NumPy has read it; TensorFlow would compute in another order for it, even where it is what it would take.
            os.environ.pop(_THREADS, None)
        self._source = source
        self._run = ""
        self._images: ClassImages | None = None

    @functools.cached_property
    def _model(self) -> ImageModel:
        # Not when the worker starts: Ray would tell of what goes wrong then by a page about actors.
        from stochdeconv.networks.image_model import load_model

        if self._source.prepare is not None:
            self._source.prepare()
        return load_model(self._source.word, weights=self._source.weights, dtype=self._source.dtype)

    def identity(self) -> tuple[str, str, str]:
        """Tell which network it is, what input it wants, and what computes it."""
        return _identity(self._model)

    def shard(self, images: str, settings: CollectSettings) -> np.ndarray:
        """Measure a shard of the images; the bytes of its file."""
        from stochdeconv.statistics.collection import collect
        from stochdeconv.statistics.file import save_statistics

        with tempfile.TemporaryDirectory() as folder:
            spool: Any = collect(self._model, images, settings, spool=Path(folder) / "spool")
            save_statistics(spool, Path(folder) / "shard.h5")
            spool.close()
            return np.fromfile(Path(folder) / "shard.h5", np.uint8)

    def batch(
        self, run: str, statistics: ClassStatistics, settings: GenerateSettings, targets: Targets, number: int
    ) -> OptimizationResult:
        """Make a batch of the images of a run, toward targets that were sampled once for all workers."""
        from stochdeconv.methods.class_images import ClassImages

        if self._images is None or run != self._run:
            self._run, self._images = run, ClassImages.of(self._model, statistics, settings, None, targets)
        return self._images.batch(number)


class Cluster:
    """Workers that share the work; ``with Cluster(...) as cluster`` starts them and ends them.

    Parameters
    ----------
    address : str
        ``"local"`` for this machine, or that of a Ray cluster: ``"auto"``, ``HOST:PORT`` or ``ray://HOST:PORT``. Its machines have the
        package, and see the photographs and network files under the same paths.
    model : ImageModel
        The network. Workers load it anew, and have to find the same weights.
    n_workers : int, optional
        By default one for each GPU, or for each machine without one.
    weights, prepare
        See `NetworkSource`.

    Raises
    ------
    SettingsError
        Fewer than one worker.
    InputError
        Ray is not installed, this process has joined a cluster already, there is none at the address, or it has fewer GPUs or
        processors than workers are to be.
    ModelError
        The network has no source that workers could load it from, or what they find is another one.
    """

    def __init__(
        self,
        address: str,
        model: ImageModel,
        *,
        n_workers: int | None = None,
        weights: str | os.PathLike | None = None,
        prepare: Callable[[], None] | None = None,
    ):
        from stochdeconv.networks.pretrained import application_names

        check_count("n_workers", n_workers)
        is_file = Path(model.source).is_file()
        if not is_file and model.source not in {*NETWORKS, *application_names()}:
            raise ModelError(
                f"model '{model.name}' was made in memory, and workers load their own: save it as a .keras file and load that"
            )
        word = str(Path(model.source).resolve()) if is_file else model.source
        own_weights = None if weights is None else str(Path(weights).resolve())
        self._address, self._n_workers, self._model = address, n_workers, model
        self._source = NetworkSource(word, own_weights, model.dtype, prepare)
        self._workers: list[Any] = []

    def __enter__(self) -> Self:
        knock(self._address)
        ray = _joined(self._address)
        try:
            self._start_workers(ray)
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._workers = []
        _ray().shutdown()

    def _start_workers(self, ray: Any) -> None:
        from stochdeconv import backend

        resources = ray.cluster_resources()
        n_gpus, n_cores = int(resources.get("GPU", 0)), int(resources["CPU"])
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        self.n_workers = self._n_workers or n_gpus or len(machines)
        if self.n_workers > (n_gpus or n_cores):
            # Ray would wait for more to come.
            there = f"{n_gpus} GPUs" if n_gpus else f"{n_cores} processors"
            raise InputError(
                f"{self.n_workers} workers, but the cluster at '{self._address}' has {there}: as many at most"
            )
        options: dict[str, Any] = {"num_gpus": 1} if n_gpus else {"num_cpus": _cores_each(machines, self.n_workers)}
        # Ray would set another number of threads than this process has, and sums of parts depend on how many parts there are.
        own = os.environ.get(_THREADS)
        # What decides on the bytes is the same for all, whatever the cluster was started with.
        options["runtime_env"] = {
            "env_vars": {
                _THREADS: own or str(max(1, n_cores // len(machines))),
                "KERAS_BACKEND": backend.name(),
                "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
            }
        }
        actor = ray.remote(max_restarts=-1, max_task_retries=_RETRIES)(_Worker)
        self._workers = [actor.options(**options).remote(self._source, own) for _ in range(self.n_workers)]
        with _told_plainly(ray):
            found = set(ray.get([worker.identity.remote() for worker in self._workers], timeout=_START_SECONDS))
        if found != {_identity(self._model)}:
            raise ModelError(
                f"workers find another network at '{self._source.word}' than '{self._model.name}' here, with other weights or another "
                f"input convention (what is said of it has to stand in its sidecar file), or compute with others than {_computed_by()}"
            )

    def _each(self, task: Callable[[Any, Any], Any], operands: Sequence[Any]) -> Iterator[Any]:
        """Let workers do a task for each of some operands; the results in their order."""
        from ray.util import ActorPool

        with _told_plainly(_ray()):
            # A pool of its own: one that was left by an error would hand the others' errors to who comes next.
            yield from ActorPool(self._workers).map(task, list(operands))

    def collect(
        self,
        images: str | os.PathLike,
        settings: CollectSettings,
        *,
        spool: str | os.PathLike,
        resume: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> ClassStatistics:
        """Measure what the images of a class have in common, in shards, see `collection.collect`.

        Parameters
        ----------
        images : path-like
            A folder or a text file of paths.
        settings : CollectSettings
            Without a shard of its own.
        spool : path-like
            Working folder, where finished shards lie until all are; it stays, for ``spool.remove_spool`` to remove.
        resume, overwrite : bool
            What to do with shards already in `spool`: measure the others, or begin anew.
        progress : callable, optional
            ``progress(n_images, n_all, message)``.

        Returns
        -------
        ClassStatistics
            To the byte those of one process.

        Raises
        ------
        ExistingOutputError
            The spool holds shards, and neither `resume` nor `overwrite` is given.
        InputError
            They are of something else; or what `collection.collect` raises.
        """
        if settings.shard is not None:
            raise SettingsError("workers measure shards of their own; leave shard= out")
        images, folder = Path(images).resolve(), Path(spool)
        paths, _ = list_images(images)
        if is_begun(folder):
            if not overwrite:
                raise ExistingOutputError(
                    f"'{folder}' holds a collection that one process began; resume=True continues it without workers, overwrite=True "
                    "starts anew with them"
                )
            remove_spool(folder)
        folder.mkdir(parents=True, exist_ok=True)
        n_shards = self._shards_in(folder, len(paths), resume=resume, overwrite=overwrite)
        files = [folder / f"shard_{number}-of-{n_shards}.bin" for number in range(1, n_shards + 1)]
        parts = [replace(settings, shard=(number, n_shards)) for number in range(1, n_shards + 1)]
        missing = []
        for file, part in zip(files, parts, strict=True):
            if file.exists():
                check_finished(file, self._model, images, part)
            else:
                missing.append((file, part))

        def task(worker: Any, of: tuple[Path, CollectSettings]) -> Any:
            return worker.shard.remote(str(images), of[1])

        n_done = n_shards - len(missing)
        for (file, _), content in zip(missing, self._each(task, missing), strict=True):
            write_atomically(file, content.tobytes())
            n_done += 1
            if progress is not None:
                progress(round(n_done / n_shards * len(paths)), len(paths), f"{n_done} of {n_shards} shards")
        return merge(files, progress=progress)

    def _shards_in(self, folder: Path, n_images: int, *, resume: bool, overwrite: bool) -> int:
        """Tell into how many shards the images are parted: as many as those that are to be gone on with."""
        there = sorted(folder.glob("shard_*-of-*.bin"))
        if there and not (resume or overwrite):
            raise ExistingOutputError(
                f"'{folder}' holds an unfinished collection; resume=True continues it, overwrite=True starts anew"
            )
        if there and not overwrite:
            return int(there[0].stem.rpartition("-")[2])
        for old in there:
            old.unlink()
        return _n_shards(n_images, self.n_workers)

    def batches(
        self, statistics: ClassStatistics, settings: GenerateSettings, targets: Targets, numbers: Sequence[int]
    ) -> Iterator[OptimizationResult]:
        """Make the batches of a run of `generate`, in their order; what its `make_batches` takes."""
        held, aimed_at, run = _ray().put(statistics), _ray().put(targets), uuid.uuid4().hex
        settled = settings.settled()
        yield from self._each(lambda worker, number: worker.batch.remote(run, held, settled, aimed_at, number), numbers)


def _identity(model: ImageModel) -> tuple[str, str, str]:
    convention = json.dumps(dict(model.preprocessing), sort_keys=True, default=str)
    return model.weights_hash, convention, _computed_by()


def _computed_by() -> str:
    from stochdeconv import backend

    versions = backend.versions()
    return ", ".join(f"{library} {versions[library]}" for library in ("stochdeconv", "keras", backend.name(), "numpy"))


def knock(address: str) -> None:
    """Raise InputError where nobody listens at ``HOST:PORT``, which Ray itself would wait for, or where Ray is not installed."""
    if find_spec("ray") is None:
        _ray()
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
        except OSError as error:
            raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> InputError:
    told = str(error).rstrip(".")
    if "token" in told.lower():
        told += ". One that wants a token is joined at HOST:PORT with RAY_AUTH_MODE=token in the environment"
    return InputError(f"no Ray cluster answers at '{address}': {told}")


def _joined(address: str) -> Any:
    """Join the cluster at an address, or begin one on this machine; the module of Ray."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    with interrupts_held():
        ray = _ray()
    if ray.is_initialized():
        raise InputError(
            "this process has joined a Ray cluster already, which is not ours to leave: call ray.shutdown() before"
        )
    own = {"num_cpus": n_processors(), "include_dashboard": False} if address == LOCAL else {}
    try:
        ray.init(**own, address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise _no_answer(address, error) from error
    return ray


def _n_shards(n_images: int, n_workers: int) -> int:
    """Part images into shards that are not too large, and as many for each worker where there are enough."""
    wanted = math.ceil(math.ceil(n_images / _SHARD_IMAGES) / n_workers) * n_workers
    return max(1, min(wanted, n_images))


def _cores_each(machines: Sequence[int], n_workers: int) -> int:
    """Tell how many processors each worker gets: as many as leave room for all, none of whom spans two machines."""
    return next(
        share for share in range(max(machines), 0, -1) if sum(cores // share for cores in machines) >= n_workers
    )


@contextlib.contextmanager
def _told_plainly(ray: Any) -> Iterator[None]:
    """Raise what went wrong in a worker as it was raised there, and what Ray tells of a worker in one line."""
    try:
        yield
    except ray.exceptions.GetTimeoutError:
        raise InputError(
            f"the cluster has not started all workers within {_START_SECONDS // 60} minutes: is it busy? n_workers= asks for fewer"
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"a worker was lost for good, after {_RETRIES + 1} tries at the same part, or never started ({told}): is there memory enough, "
            "and is the same package installed on every machine?"
        ) from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            "work is shared by Ray, which is not installed: pip install 'stochdeconv[ray]', on every machine"
        ) from None
    return ray
