"""The few things Keras leaves to TensorFlow, JAX or PyTorch: gradients, compilation, dtypes, devices."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stochdeconv import __version__
from stochdeconv.installed import require_backend

# TensorFlow's C++ side prints pages at import; Keras reads KERAS_BACKEND itself (TensorFlow is its default).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

try:
    import keras
except (ModuleNotFoundError, ValueError):  # not installed, or not a backend
    require_backend()
    raise


Function = Callable[..., Any]


def name() -> str:
    """Name the backend Keras runs on: ``"tensorflow"``, ``"jax"`` or ``"torch"``."""
    return keras.backend.backend()


def _library() -> Any:
    return importlib.import_module({"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}[name()])


def compute_float32_in_full() -> None:
    """Keep Nvidia's tensor cores from rounding float32 products to 10 bits (TF32), which libraries do unasked.

    Statistics, logits and figures are promised in float32; the image loop is in bfloat16 where it is to be fast.
    """
    if name() == "tensorflow":
        _library().config.experimental.enable_tensor_float_32_execution(False)
    elif name() == "jax":
        _library().config.update("jax_default_matmul_precision", "highest")
    else:
        torch = _library()
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False


# Settings of the whole process: they have to be made once, before anything is compiled.
compute_float32_in_full()


def compile(function: Function) -> Function:
    """Compile a function of tensors; it is traced once per combination of shapes and dtypes.

    Pass numbers that change between calls as arrays: a Python number is part of the program and compiles it anew.
    """
    if name() == "tensorflow":
        return _library().function(function, autograph=False)
    if name() == "jax":
        return _library().jit(function)
    return function


def value_and_gradient(function: Function) -> Function:
    """Differentiate ``function(x) -> (scalar, extra)`` with respect to x, a tensor or a nest of tensors.

    Parameters
    ----------
    function : callable
        Its scalar is differentiated; extra, of any structure, is handed on.

    Returns
    -------
    callable
        ``x -> ((scalar, extra), gradient)``; the gradient has the structure of x, zero where the scalar does not depend on x.
    """
    if name() == "jax":
        return _library().value_and_grad(function, has_aux=True)
    if name() == "torch":
        return _torch_value_and_gradient(function)
    tensorflow = _library()

    def evaluate(x):
        leaves = keras.tree.flatten(x)
        with tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(leaves)
            value, extra = function(x)
        gradient = tape.gradient(value, leaves, unconnected_gradients=tensorflow.UnconnectedGradients.ZERO)
        # Gathered tensors get a sparse gradient (IndexedSlices); callers expect the tensor.
        gradient = [tensorflow.convert_to_tensor(part) for part in gradient]
        return (value, extra), keras.tree.pack_sequence_as(x, gradient)

    return evaluate


def _torch_value_and_gradient(function: Function) -> Function:
    torch = _library()

    def evaluate(x):
        leaves = [leaf.detach().requires_grad_(True) for leaf in keras.tree.flatten(x)]
        with torch.enable_grad():
            value, extra = function(keras.tree.pack_sequence_as(x, leaves))
        parts = torch.autograd.grad(value, leaves, allow_unused=True)
        gradient = [torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, parts, strict=True)]
        extra = keras.tree.map_structure(lambda part: part.detach() if torch.is_tensor(part) else part, extra)
        return (value.detach(), extra), keras.tree.pack_sequence_as(x, gradient)

    return evaluate


def inverse_real_fft2(real: Any, imaginary: Any, size: tuple[int, int]) -> Any:
    """Transform half-plane spectra back: (..., row, column // 2 + 1), real and imaginary, -> (..., row, column), as NumPy's irfft2."""
    library = _library()
    if name() == "tensorflow":
        return library.signal.irfft2d(library.complex(real, imaginary), size)
    if name() == "jax":
        return library.numpy.fft.irfft2(library.lax.complex(real, imaginary), s=size)
    return library.fft.irfft2(library.complex(real, imaginary), s=size)


def optimizer_step(
    optimizer: keras.optimizers.Optimizer,
    variables: list[keras.Variable],
    state: list[Any],
    gradients: list[Any],
    values: list[Any],
) -> tuple[list[Any], list[Any]]:
    """Take a step of a Keras optimizer as a function of its state: what its variables hold before and after does not count.

    Parameters
    ----------
    optimizer : keras.optimizers.Optimizer
        Built for the variables.
    variables : list of keras.Variable
    state : list of tensors
        Values of ``optimizer.variables``.
    gradients, values : list of tensors
        Of each variable.

    Returns
    -------
    values, state : list of tensors
        After the step.
    """
    if name() == "jax":
        return optimizer.stateless_apply(state, gradients, values)
    # TensorFlow's optimizers refuse stateless_apply ("incompatible with tf.distribute"), PyTorch's write into what they are handed.
    holders = [*variables, *optimizer.variables]
    for holder, value in zip(holders, [*values, *state], strict=True):
        holder.assign(value)
    optimizer.apply(gradients)
    after = [keras.ops.copy(holder.value) for holder in holders]
    return after[: len(variables)], after[len(variables) :]


def preferred_dtype() -> str:
    """Choose the dtype of the image loop's network: bfloat16 where the hardware multiplies faster in it, else float32."""
    if name() == "tensorflow":
        gpus = _library().config.list_physical_devices("GPU")
        if gpus:
            capability = _library().config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
            return "bfloat16" if capability >= (8, 0) else "float32"
        return "bfloat16" if _cpu_is_faster_in_bfloat16() else "float32"
    if name() == "jax":
        return "bfloat16" if has_gpu() else "float32"
    torch = _library()
    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"


def has_gpu() -> bool:
    """Tell whether there is a faster device than the processors."""
    if name() == "tensorflow":
        return bool(_library().config.list_physical_devices("GPU"))
    if name() == "jax":
        return _library().default_backend() in {"gpu", "tpu"}
    return _library().cuda.is_available()


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of the backend means that the device's memory is full."""
    return type(error).__name__ in {"ResourceExhaustedError", "OutOfMemoryError"} or "RESOURCE_EXHAUSTED" in str(error)


def _cpu_is_faster_in_bfloat16() -> bool:
    # To have the instructions is not enough: Intel's avx512_bf16 takes VGG16 1.4 times as long as float32, AMD's less.
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    words = set(cpuinfo.read_text().split())
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words


def versions() -> dict[str, str]:
    """Name what a result depends on: versions of Python, this package and the libraries it computes with."""
    libraries = ["keras", name(), "numpy", "scikit-learn", "h5py", "pillow"]
    by_name = {"python": platform.python_version(), "stochdeconv": __version__}
    for library in libraries:
        try:
            by_name[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            by_name[library] = "not installed"
    return by_name
