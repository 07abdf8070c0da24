"""What all commands have in common, as a user meets it: help, versions, progress, warnings."""

import io
import os
import subprocess
import sys
import time
import warnings

import pytest
from commands import refuse, succeed

from stochdeconv.cli import COMMANDS, terminal


def test_help_names_every_command_and_is_quick():
    """Processor seconds, the least of three: what else the machine does only adds to them, and to the wall's first of all."""
    program = "from stochdeconv.cli import main; main()"
    command = [sys.executable, "-c", program, "--help"]
    seconds = []
    for _ in range(3):
        before = os.times()
        called = subprocess.run(command, check=True, capture_output=True, text=True)
        after = os.times()
        seconds.append((after.children_user - before.children_user) + (after.children_system - before.children_system))
    for name in COMMANDS:
        assert f" {name} " in called.stdout
    assert min(seconds) < 0.5


def test_help_does_not_wait_for_numpy():
    """It took a third of the time."""
    program = """
import sys
from stochdeconv.cli import main
sys.argv = ["stochdeconv", "--help"]
try:
    main()
finally:
    print("numpy:", "numpy" in sys.modules, file=sys.stderr)
"""
    called = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert called.stderr.splitlines()[-1] == "numpy: False"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_needs_no_keras(command):
    program = f"""
import sys
from stochdeconv.cli import main
sys.argv = ["stochdeconv", "{command}", "--help"]
try:
    main()
finally:
    heavy = {{"keras", "tensorflow", "sklearn", "matplotlib"}} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""
    called = subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True)
    assert "heavy: []" in called.stderr
    assert COMMANDS[command].split()[0] in called.stdout


def test_defaults_are_those_of_the_library():
    from stochdeconv.methods.class_images import GenerateSettings

    settings = GenerateSettings()
    # In a wide window no default is broken over two lines.
    command = [sys.executable, "-c", "from stochdeconv.cli import main; main()", "generate", "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    called = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    displayed = " ".join(called.stdout.split())
    assert "By default local where the statistics hold what it needs" in displayed.replace("│ │ ", "")
    for name in ("temperature", "n_steps", "gradient_rule", "init", "row_weight"):
        assert f"default: {getattr(settings, name)}" in displayed


def test_version():
    import stochdeconv

    assert succeed("--version").stdout.strip() == stochdeconv.__version__


@pytest.mark.parametrize("words", [["colect"], ["collect"], ["generate", "a.h5"], ["layers", "a", "b"], ["--no-such"]])
def test_wrong_usage_is_exit_2(words):
    refuse(*words, code=2)


def test_keras_comes_without_the_pages_of_tensorflow(made):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    program = "from stochdeconv.cli import main; main()"
    called = subprocess.run(
        [sys.executable, "-c", program, "layers", made / "tiny.keras"], env=environment, capture_output=True, text=True
    )
    assert called.returncode == 0
    assert called.stderr == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown_progress(monkeypatch, *, terminal_is_there=True, quiet=False):
    from stochdeconv.optimization.results import Step

    stream = Terminal() if terminal_is_there else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.ProgressBar("church", quiet=quiet) as bar:
        bar.on_step(Step(3, 10, {"scores:conv2": 0.25, "total_variation": 1.5}, lambda: None))
        time.sleep(0.2)
    return stream.getvalue()


def test_progress_shows_steps_time_and_each_loss(monkeypatch):
    displayed = shown_progress(monkeypatch)
    for part in ("church", "3/10", "scores:conv2 0.25", "total_variation 1.5", ":"):
        assert part in displayed


def test_progress_is_quiet_without_terminal_or_on_demand(monkeypatch):
    assert shown_progress(monkeypatch, terminal_is_there=False) == ""
    assert shown_progress(monkeypatch, quiet=True) == ""


def test_warnings_of_other_libraries_are_not_shown(capsys):
    with terminal.plain_warnings():
        for module in ("tensorflow.python", "stochdeconv.cli.collect", "stochdeconvolution"):
            warnings.warn_explicit(f"said by {module}", UserWarning, "file.py", 1, module=module)
    assert capsys.readouterr().err == "warning: said by stochdeconv.cli.collect\n"
