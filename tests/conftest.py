"""What several test files need."""

import os
from pathlib import Path

import pytest

# Before anything imports TensorFlow: it would log to stderr what no test wants to read.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and networks; tests that ask for it are skipped where it is missing."""
    folder = Path(os.environ.get("STOCHDECONV_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no photographs and networks at {folder} (STOCHDECONV_SHARED says where)")
    return folder
