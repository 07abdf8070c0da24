from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from stochdeconv import backend


def numbers(nest):
    return keras.tree.map_structure(ops.convert_to_numpy, nest)


def test_gradients_keep_the_structure_and_are_zero_where_nothing_depends():
    x = {
        "a": ops.convert_to_tensor(np.array([1.0, 2.0], np.float32)),
        "b": ops.convert_to_tensor(np.ones((2, 2), np.float32)),
    }

    def cubed(x):
        return ops.sum(x["a"] ** 3), x["a"] + 1

    (value, extra), gradient = backend.compile(backend.value_and_gradient(cubed))(x)
    values = numbers({"value": value, "extra": extra, **gradient})
    assert values["value"] == 9
    np.testing.assert_array_equal(values["extra"], [2, 3])
    np.testing.assert_array_equal(values["a"], [3, 12])
    np.testing.assert_array_equal(values["b"], np.zeros((2, 2)))


def test_a_gathered_tensor_has_a_dense_gradient():
    def gathered(x):
        return ops.sum(ops.take(x, np.array([2, 0, 2]), axis=0)), ()

    _, gradient = backend.value_and_gradient(gathered)(ops.convert_to_tensor(np.zeros((4, 1), np.float32)))
    np.testing.assert_array_equal(numbers(gradient).ravel(), [1, 0, 2, 0])


def test_a_compiled_function_is_traced_once_for_numbers_passed_as_arrays():
    traces = []

    def scaled(x, factor):
        traces.append(None)
        return x * factor

    compiled = backend.compile(scaled)
    x = ops.convert_to_tensor(np.ones(3, np.float32))
    for factor in (1.0, 2.0, 3.0):
        last = compiled(x, ops.convert_to_tensor(np.float32(factor)))
    np.testing.assert_array_equal(numbers(last), [3, 3, 3])
    assert len(traces) == (1 if backend.name() in ("tensorflow", "jax") else 3)


def test_float32_is_float32():
    """Importing the package's backend is enough; with TF32 a GPU gives 1 in place of 1 + 2^-12."""
    assert not uses_tf32()
    rounded = ops.convert_to_tensor(np.full((8, 8), 1 + 2.0**-12, np.float32))
    identity = ops.convert_to_tensor(np.eye(8, dtype=np.float32))
    np.testing.assert_array_equal(numbers(ops.matmul(rounded, identity)), np.float32(1 + 2.0**-12))


def uses_tf32():
    if backend.name() == "tensorflow":
        import tensorflow

        return tensorflow.config.experimental.tensor_float_32_execution_enabled()
    if backend.name() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "highest"
    import torch

    return torch.backends.cudnn.allow_tf32 or torch.get_float32_matmul_precision() != "highest"


def test_what_a_result_depends_on_is_named():
    versions = backend.versions()
    assert versions["keras"] == keras.__version__ and versions["numpy"] == np.__version__
    assert backend.preferred_dtype() in ("float32", "bfloat16")


@pytest.mark.parametrize(
    ("cpuinfo", "is_faster"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
    ],
)
def test_bfloat16_is_taken_where_the_processor_is_faster_in_it(monkeypatch, cpuinfo, is_faster):
    monkeypatch.setattr(Path, "exists", lambda path: True)
    monkeypatch.setattr(Path, "read_text", lambda path: cpuinfo)
    assert backend._cpu_is_faster_in_bfloat16() is is_faster
