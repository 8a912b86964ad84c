"""The documentation: every Python block and every notebook runs, and every YAML block is a configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from vigmm.config import read_job

DOCS = Path(__file__).resolve().parent.parent / "docs"


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def ran(code, name):
    """The names that pieces of code leave, run in one namespace under the settings that users have."""
    names: dict[str, object] = {"__name__": name}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for piece in code:
            exec(compile(piece, f"docs/{name}", "exec"), names)
    return names


def index(names):
    assert names["fit"].posterior.num_components == 3
    assert (names["found"] == names["shares"].argmax(axis=1)).all()
    assert np.isfinite(names["density"]).all()
    assert Path("model", "model.json").exists()


def finding_k(names):
    assert names["fit"].posterior.num_components == names["exact"].posterior.num_components == 3
    assert max(names["bounds"], key=names["bounds"].get) == "TiedSpherical"
    assert (names["auto"].posterior.num_components, names["full"].posterior.num_components) == (2, 1)


def trust(names):
    found = names["found"]
    page = (DOCS / "trust.md").read_text()
    assert [finding.name for finding in found.findings if f"`{finding.name}`" not in page] == []
    assert found.khat < 0.7
    assert names["better"].means.shape == (500, 3, 2)


def missing_and_weights(names):
    rows, complete, filled = names["rows"], names["complete"], names["filled"]
    holes = np.isnan(rows)
    # Better than the column's mean by far: columns of a cluster move together.
    error = (filled.mean - complete)[holes]
    assert np.sqrt(np.mean(error**2)) < 0.4 * complete.std()
    assert (filled.sd[~holes] == 0).all()
    assert filled.draws.shape == (5, 300, 3)
    assert names["twice"].posterior.summary(rows=300) is not None


def custom_prior(names):
    assert names["sure"].posterior.num_components == 3
    assert names["sure"].elbo.elbo > names["fit"].elbo.elbo
    assert sorted(names["own"].posterior.means.round().tolist()) == [[0, 0], [0, 6], [6, 0]]


def numpyro_models(names):
    np.testing.assert_allclose(names["draws"]["w"].mean(axis=0), [1.5, -0.7], atol=0.5)
    error = np.hypot(names["fit"].elbo.se, names["quiet"].elbo.se)
    assert names["quiet"].elbo.elbo < names["fit"].elbo.elbo + 3 * error + 0.5


def from_numpyro(names):
    ratio = names["exact"].std(axis=0) / names["approximate"].std(axis=0)
    assert ((ratio > 0.6) & (ratio < 1.6)).all()
    centre = names["exact"].mean(axis=0) - names["approximate"].mean(axis=0)
    assert (np.abs(centre) < names["exact"].std(axis=0)).all()


CHECKS = {
    "index.md": index,
    "finding-k.md": finding_k,
    "trust.md": trust,
    "missing-and-weights.md": missing_and_weights,
    "custom-prior.md": custom_prior,
    "numpyro-models.md": numpyro_models,
    "from-numpyro.md": from_numpyro,
}
ELSEWHERE = {
    f"{name}.md": f"tests/{folder}/test_docs.py"
    for name, folder in {"sklearn": "sklearn", "interop": "interop", "plots": "plot"}.items()
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_python_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[name](ran(blocks(DOCS / name, "python"), name))


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def first_steps(names):
    table = names["table"]
    assert table.shape == (3, 3)
    assert table.max(axis=1).sum() > 160


def colours(names):
    assert names["labels"].shape == names["image"].shape[:2]
    # Painted in eight colours, a pixel is nearer to its own than to the mean of the picture.
    error = names["pixels"] - names["fit"].posterior.means[names["found"].component]
    assert error.std() < 0.5 * names["pixels"].std()


def how_many(names):
    full, diag = names["fits"]["Full"], names["fits"]["Diag"]
    assert full.posterior.num_components < diag.posterior.num_components
    assert full.elbo.elbo > diag.elbo.elbo + 50
    assert names["same"] > 0.8


def how_wrong(names):
    narrow = {}
    for name, fit in names["fits"].items():
        draws = fit.posterior.draw(jax.random.key(5), 1000)
        narrow[name] = draws.means.std(axis=0).ravel() / names["exact"]["means"].std(axis=0)
    assert (narrow["conjugate"] < narrow["fullrank"]).all()
    assert (narrow["fullrank"] < 1.1).all()


NOTEBOOKS = {
    "1-first-steps": first_steps,
    "2-colours": colours,
    "3-how-many": how_many,
    "4-trust": how_wrong,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run(name, request):
    for library in ("sklearn", "matplotlib", "PIL"):
        pytest.importorskip(library)
    import matplotlib.pyplot as plt

    request.addfinalizer(lambda: plt.close("all"))
    code = ["".join(cell["source"]) for cell in cells(DOCS / "notebooks" / f"{name}.ipynb")]
    NOTEBOOKS[name](ran(code, f"{name}.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_kept_as_they_ran(name):
    """In order, from the first cell on, without errors or warnings."""
    found = cells(DOCS / "notebooks" / f"{name}.ipynb")
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    outputs = [output for cell in found for output in cell["outputs"]]
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
    assert (DOCS / "notebooks" / f"{name}.ipynb").stat().st_size < 600_000


def test_every_notebook_is_tested():
    assert {path.stem for path in (DOCS / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)


def test_every_page_with_python_is_run_by_a_test(root):
    with_python = {path.name for path in DOCS.glob("*.md") if blocks(path, "python")}
    assert with_python == {*CHECKS, *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert page in (root / test).read_text()


def test_every_yaml_block_is_a_configuration():
    found = [(path.name, text) for path in sorted(DOCS.glob("*.md")) for text in blocks(path, "yaml")]
    assert len(found) > 3
    for name, text in found:
        read_job(text if "data:" in text else f"data: {{path: x.csv}}\n{text}", name=name)


def test_the_first_page_begins_with_the_commands_that_are_tested():
    """See tests/e2e/test_newcomer.py."""
    assert blocks(DOCS / "index.md", "sh")[0] == blocks(DOCS / "cli.md", "sh")[0]


def test_every_link_within_the_repository_leads_somewhere(root):
    """Those within docs/, anchors included, are also checked when the site is built."""
    for path in sorted(DOCS.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+\.\w+)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.relative_to(root)}: {target}"
