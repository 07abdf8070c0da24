"""The house is counted: a toy of four modules, by hand."""

import count_house
import pytest

CONTRACT = """
[[tool.importlinter.contracts]]
type = "layers"
layers = ["upper | beside", "lower"]
"""
FILES = {
    "stochdeconv/__init__.py": "",
    "stochdeconv/upper.py": "def walk():\n    '''Walk.\n\n    On.\n    '''\n    from stochdeconv.lower import a\n    b = a\n    return b\n",
    "stochdeconv/beside.py": "import stochdeconv.upper\n",
    "stochdeconv/lower/__init__.py": "from stochdeconv import upper\n",
    "stochdeconv/lower/a.py": "import stochdeconv.lower.b\n\n\n@cache\ndef one(): return lambda: 1\n",
    "stochdeconv/lower/b.py": "from stochdeconv.lower.a import one\ndef outer():\n  def inner():\n    def most(): pass\n",
    "README.md": "a\nb\n",
    "pyproject.toml": CONTRACT,
}


@pytest.fixture
def counted(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return dict(count_house.count(tmp_path))


def test_size(counted):
    assert (counted["modules at the top"], counted["packages at the top"], counted["modules in all"]) == ("2", "1", "6")
    assert counted["lines of the package"] == "19, median of a module 2.5"
    assert counted["longest function"] == "8 (upper.walk)"
    assert counted["longest function without docstring"] == "4 (upper.walk)"
    assert counted["functions in functions in functions"] == "1"
    assert (counted["lines of README.md"], counted["lines of tests"]) == ("2", "0")


def test_arrows(counted):
    # upper -> lower, beside -> upper, lower -> upper
    assert counted["rooms on floors of the contract"] == "3 on 2"
    assert [counted[f"arrows {which}"] for which in ("between rooms", "upward", "sideways")] == ["3", "1", "1"]
    assert counted["rooms in circles, of all packages"] == "lower, upper, lower.a, lower.b"
