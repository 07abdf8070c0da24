"""The house rules that an import linter cannot say: who may use which library, and who may do what."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stochdeconv"
EXAMPLES = sorted((PACKAGE.parent / "scripts" / "examples").glob("*.py"))

# Library -> who may import it: a room, or a module of one.
SOLE_IMPORTERS = {
    "h5py": "statistics",
    "PIL": "images",
    "av": "images.animations",
    "cv2": "images.faces",
    "tensorflow": "backend",
    "jax": "backend",
    "torch": "backend",
    "cyclopts": "cli",
    "rich": "cli",
}
NAMELESS = {"utils", "util", "common", "misc", "base", "helpers", "helper", "core"}
# Their signatures hold the defaults of commands, or they are asked whether a call makes sense before a network is loaded.
FREE_OF_KERAS = [
    "atlas.writing",
    "demo",
    "evaluation.compare",
    "evaluation.contestants",
    "evaluation.measure",
    "evaluation.photographs",
    "images.faces",
    *(
        f"methods.{name}"
        for name in ("dream", "generate", "invert", "maximize", "morph", "refine", "runs", "saliency", "sweep")
    ),
    "networks.catalogue",
    "networks.operations",
    "optimization.descent",
    "sampling.samplers",
    "sampling.traversals",
    "statistics.collection",
    "statistics.file",
]
# What knows that an input is a picture, of a file or of a class: nothing the loop needs.
IMAGE_ROOMS = {
    "assets",
    *(f"images.{name}" for name in ("animations", "faces", "files", "folders", "markup", "sheets")),
    *(f"networks.{name}" for name in ("catalogue", "classes", "conventions", "image_model", "pretrained")),
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(nodes):
    """Modules that import statements among some nodes name, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module == "stochdeconv":
                yield from (f"stochdeconv.{alias.name}" for alias in node.names)
            else:
                yield node.module
                # A module of a package, where it is one.
                names = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name for name in names if name.removeprefix("stochdeconv.") in MODULES)


def test_rooms_have_names_that_say_something():
    assert not {part for name in MODULES for part in name.split(".")} & NAMELESS


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_gates(name):
    for module in imported_modules(ast.walk(MODULES[name])):
        allowed = SOLE_IMPORTERS.get(module.split(".")[0])
        assert allowed is None or f"{name}.".startswith(f"{allowed}."), (
            f"{name} imports {module}: that is for {allowed} alone"
        )


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] != "cli"])
def test_only_the_command_line_prints_or_exits(name):
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "quit", "sys.exit", "os._exit"}, (
                f"{name} line {node.lineno}: {called}"
            )
        if isinstance(node, ast.Raise) and node.exc is not None:
            assert "SystemExit" not in ast.unparse(node.exc), f"{name} line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"sys.stdout", "sys.stderr.write"}, f"{name} line {node.lineno}"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_user_input_is_not_asserted(name):
    lines = [node.lineno for node in ast.walk(MODULES[name]) if isinstance(node, ast.Assert)]
    assert not lines, f"{name} lines {lines}: raise a StochDeconvError"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_nothing_draws_from_a_global_random_state(name):
    for node in ast.walk(MODULES[name]):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        legacy = re.fullmatch(r"(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence)\w+", called)
        assert not legacy, f"{name} line {node.lineno}: {called}"
        assert called not in {"keras.utils.set_random_seed", "random.seed"}, f"{name} line {node.lineno}: {called}"


def test_every_library_that_is_imported_is_declared():
    """A library that comes along with another one may stop to come."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["faces"], *extras["ray"]]
    declared = {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}
    named_otherwise = {"PIL": "pillow", "cv2": "opencv-python-headless", "sklearn": "scikit-learn"}
    imported = {module.split(".")[0] for tree in MODULES.values() for module in imported_modules(ast.walk(tree))}
    needed = {named_otherwise.get(name, name) for name in imported - sys.stdlib_module_names - {"stochdeconv"}}
    assert needed <= declared, f"pyproject.toml does not declare {needed - declared}"


def imported_at_once(tree):
    """Import statements that run when a module is imported: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from imported_at_once(node)


def reach(name, actual):
    """Collect what importing a module brings in, its packages and all the way down."""
    if name in actual:
        return actual
    actual.add(name)
    if name.startswith("stochdeconv."):
        package = name.rpartition(".")[0]
        tree = MODULES.get(name.removeprefix("stochdeconv."))
        for imported in [package, *(imported_modules(imported_at_once(tree)) if tree is not None else ())]:
            reach(imported, actual)
    return actual


@pytest.mark.parametrize("name", FREE_OF_KERAS)
def test_what_commands_read_their_defaults_from_loads_without_keras(name):
    actual = reach(f"stochdeconv.{name}", set())
    heavy = {module for module in actual if module.split(".")[0] in {"keras", "tensorflow", "sklearn", "matplotlib"}}
    assert not heavy, f"stochdeconv.{name} brings in {heavy}"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_the_public_interface_alone(path):
    imported = imported_modules(ast.walk(ast.parse(path.read_text())))
    assert {module for module in imported if module.startswith("stochdeconv")} == {"stochdeconv"}


def test_the_loop_knows_no_images():
    assert "optimize_voxels.py" in {path.name for path in EXAMPLES}
    public = {
        f"stochdeconv.{name}"
        for name in ("optimization.loop", "optimization.parameterizations", "networks.network", "losses")
    }
    actual = set().union(*(reach(name, set()) for name in public))
    assert public <= actual and not actual & {f"stochdeconv.{room}" for room in IMAGE_ROOMS}


def test_public_functions_say_what_they_are_for():
    missing = []
    for name, tree in MODULES.items():
        for node in [tree, *tree.body]:
            public = isinstance(node, ast.Module) or (
                isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            )
            if "overload" in map(ast.unparse, getattr(node, "decorator_list", ())):
                continue  # what stands below it has the docstring
            if public and not ast.get_docstring(node):
                missing.append(f"{name}.{getattr(node, 'name', '')}")
    assert not missing
