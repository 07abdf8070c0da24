"""The notebooks run from end to end, in an empty folder, on what ships with the package."""

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
# What each is about has to be seen: pictures at least.
N_PICTURES = {"first_class": 4, "own_model": 3, "deepdream": 6, "compare": 2}
# In place of the steps that make good pictures: every cell runs, with each of its words.
N_STEPS = 8
TIMEOUT_S = 300


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_there_is_one_for_each_task_and_the_readme_names_it():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(N_PICTURES)
    text = (ROOT / "README.md").read_text()
    for name in N_PICTURES:
        assert f"(docs/notebooks/{name}.ipynb)" in text


@pytest.mark.parametrize("name", N_PICTURES)
def test_stored_as_text_alone(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    for target in re.findall(r"\]\((\w+\.ipynb)\)", (FOLDER / f"{name}.ipynb").read_text()):
        assert (FOLDER / target).is_file()


def in_few_steps(notebook):
    for cell in notebook.cells:
        cell.source = re.sub(r"(?<=N_STEPS = )\d{2,}|(?<=n_steps=)\d{2,}", str(N_STEPS), cell.source)
    return notebook


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """One kernel for all, which has imported what takes longest; it forgets the names of one notebook before the next."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(variable, str(folder))
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel(cwd=str(folder))
        yield manager
        manager.shutdown_kernel(now=True)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", N_PICTURES)
def test_runs_from_end_to_end(name, kernel, tmp_path):
    notebook = in_few_steps(read(name))
    forget = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {tmp_path}")
    notebook.cells.insert(0, forget)
    client = NotebookClient(notebook, km=kernel, timeout=TIMEOUT_S)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    # What TensorFlow says about the machine depends on the machine; a warning is one a reader would stumble over.
    complaints = [
        output.text
        for output in outputs
        if output.get("name") == "stderr" and re.search(r"Warning|WARNING:tensorflow", output.text)
    ]
    assert complaints == []
    displayed = [output.data for output in outputs if "data" in output]
    n_pictures = sum("image/png" in data or '<img src="data:image/' in data.get("text/html", "") for data in displayed)
    assert n_pictures >= N_PICTURES[name]
