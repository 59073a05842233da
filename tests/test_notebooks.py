"""Notebooks run from their first cell to their last, on small budgets.

They are stored without outputs, and each begins with the same cell, which finds or
installs vaejax. Their asserts are theirs: a notebook that shows something wrong fails.
"""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted(
    (Path(__file__).parents[1] / "notebooks").glob("*.ipynb"),
    key=lambda path: int(path.stem.split("_")[0]),
)
SMALL = {
    "1_vae": {"epochs": 2, "samples": 20},
    "2_latent_space": {"plane_epochs": 5, "epochs": 10},
    "3_players": {"vae_epochs": 1, "gan_epochs": 1, "vaegan_epochs": 1},
    "4_conditional": {
        "epochs": 1,
        "cvaegan_epochs": 1,
        "completion_epochs": 2,
        "classifier_epochs": 1,
        "examples": 20,
        "samples": 10,
    },
    "5_missing_data": {
        "completion_epochs": 2,
        "table_epochs": 40,
        "seeds": 2,
        "imputer_epochs": 5,
        "samples": 50,
        "draws": 39,
    },
    "6_your_own": {"epochs": 10, "samples": 50},
    "7_scaling": {"epochs": 2, "seeds": 2, "batch_size": 256},
    "8_how_tight": {"epochs": 3, "samples": 500, "temperatures": 150},
    "9_disentangling": {"betas": (1.0, 8.0), "seeds": 1, "epochs": 2, "examples": 500},
    "10_tokens": {"first_epochs": 2, "epochs": 6},
}
"""What replaces the values of the cell tagged `parameters`."""


def read(path):
    return nbformat.read(path, as_version=4)


def parameters(notebook):
    """The number of the cell tagged `parameters`, and the values it assigns."""
    tagged = [
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    found = {}
    for line in ast.parse(notebook.cells[tagged[0]].source).body:
        assert isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
        found[line.targets[0].id] = ast.literal_eval(line.value)
    return tagged[0], found


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Kernels are those of this Python, whatever else this machine has.

    They have the one device of a laptop.
    """
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS[0].parents[1]))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, kernels):
    notebook = read(path)
    number, values = parameters(notebook)
    small = SMALL[path.stem]
    assert set(small) == set(values)
    lines = [f"{name} = {value!r}" for name, value in small.items()]
    notebook.cells[number].source = "\n".join(lines)
    folder = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=folder).execute()
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    kinds = {kind for each in outputs for kind in each.get("data", {})}
    assert "image/png" in kinds
    said = [each.text for each in outputs if each.get("name") == "stderr"]
    assert not [text for text in said if "Warning" in text], said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_source(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].source.startswith("# ")
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert code[0] == read(NOTEBOOKS[0]).cells[1].source  # finds or installs vaejax
    parameters(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_are_there(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for link in re.findall(r"\]\(([^)#]+)", cell.source):
                assert link.startswith("http") or (path.parent / link).exists(), link


def test_all_notebooks_are_in_the_table():
    table = (NOTEBOOKS[0].parent / "README.md").read_text()
    assert re.findall(r"\]\((\w+\.ipynb)\)", table) == [p.name for p in NOTEBOOKS]


def test_the_first_cell_installs_from_a_clone_or_an_address(tmp_path, monkeypatch):
    """Where vaejax is not importable, as in Colab."""
    source = read(NOTEBOOKS[0]).cells[1].source
    ran = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda words, check: ran.append(words))
    monkeypatch.setattr("sys.path", [])
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match="REPOSITORY"):
        exec(source, {})
    assert not ran
    exec(source.replace('REPOSITORY = ""', 'REPOSITORY = "https://a.b/c"'), {})
    assert ran[0][:4] == ["git", "clone", "-q", "https://a.b/c"]
    assert ran[1][-1] == f"{folder}/vaejax-clone[notebooks]"
    ran.clear()
    (tmp_path / "vaejax").mkdir()
    exec(source, {})
    assert [words[-1] for words in ran] == [f"{tmp_path}[notebooks]"]


def test_a_stored_notebook_is_what_nbformat_writes():
    for path in NOTEBOOKS:
        text = json.dumps(json.loads(path.read_text()), indent=1, ensure_ascii=False)
        assert path.read_text() == text + "\n"
