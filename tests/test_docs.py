"""Every Python block of the README and the docs runs as printed, page by page."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import daynight
import daynight.study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst"))]


def blocks(path):
    text = path.read_text()
    if path.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    pattern = r"^( *)\.\. code-block:: python\n((?:\1   :.*\n)*)\n((?:\1   .*\n|\n)+)"
    found = re.findall(pattern, text + "\n", flags=re.M)
    return [re.sub(f"^{indent}   ", "", body, flags=re.M) for indent, _, body in found]


WITH_CODE = [path for path in PAGES if blocks(path)]


def test_pages_with_code_are_found():
    assert {path.name for path in WITH_CODE} >= {"README.md", "quickstart.rst", "policies.rst"}


@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: path.name)
def test_code_of_a_page_runs_as_printed(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.MNIST.download", no_download)
    script = tmp_path / "page.py"  # a file, for studies look at the source of functions
    script.write_text("\n".join(blocks(path)))
    exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
    plt.close("all")


def no_download(*args, **kwargs):
    raise RuntimeError("tests have no network")


def test_policy_of_the_docs_takes_twelve_lines():
    (lengthening,) = [block for block in blocks(ROOT / "docs" / "policies.rst") if "class Lengthening" in block]
    assert len([line for line in lengthening.splitlines() if line.strip()]) <= 12


def test_readme_commands_are_those_of_ci():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^<!-- (run|test) -->\n```sh\n(.*)\n```", text, flags=re.M)
    assert [name for name, _ in commands] == ["run", "test"]
    assert "python examples/mnist_nights.py" in commands[0][1]
    for part in ("pytest", "ruff check", "mypy", "sphinx-build -W"):
        assert part in commands[1][1]


#: Of the public names those that are documented under another one, or need no documentation.
ELSEWHERE = {"daynight.__version__", "daynight.study.measures"}


@pytest.mark.parametrize("package", [daynight, daynight.study], ids=lambda package: package.__name__)
def test_reference_has_every_public_name(package):
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.rst"))
    documented = set(re.findall(r"^\.\. auto(?:class|function|module):: (\S+)$", pages, flags=re.M))
    assert {f"{package.__name__}.{name}" for name in package.__all__} <= documented | ELSEWHERE


def test_whole_modules_are_in_the_reference():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.rst"))
    whole = re.findall(r"^\.\. automodule:: (\S+)\n   :members:$", pages, flags=re.M)
    modules = (
        "plots",
        "reports",
        "loggers",
        "data.adapters",
        "metrics",
        "criteria",
        "pruning",
        "rates",
        "testing",
        "errors",
    )
    assert set(whole) >= {f"daynight.{name}" for name in modules}
