"""The pages of the Python reference: which public names stand on which page."""

from __future__ import annotations

import vigmm

# Page, title, modules whose public names of `vigmm` it holds, and further names.
PAGES = (
    ("fitting", "Fitting", ("vigmm.api", "vigmm.fitted", "vigmm.core.outcome", "vigmm.train"), ()),
    (
        "posterior",
        "Posterior",
        ("vigmm.posterior",),
        (
            "vigmm.posterior." + name
            for name in ("Assignments", "Clusters", "Draws", "Summary", "ElboReport", "Finding")
        ),
    ),
    ("models", "Models and priors", ("vigmm.models",), ()),
    ("families", "Families", ("vigmm.families",), ()),
    ("estimators", "Estimators", ("vigmm.estimators",), ()),
    ("optim", "Optimisers", ("vigmm.optim",), ()),
    (
        "data",
        "Data",
        ("vigmm.data.sources",),
        ("vigmm.data.sources." + name for name in ("Source", "open_source")),
    ),
    (
        "interop",
        "Other libraries",
        ("vigmm.interop",),
        ("vigmm.interop." + name for name in ("NumpyroFit", "to_onnx", "to_stablehlo")),
    ),
    ("sklearn", "scikit-learn", (), ("vigmm.sklearn.estimator.BayesianGaussianMixture",)),
    (
        "plot",
        "Plots",
        (),
        (
            "vigmm.plot." + name
            for name in (
                "trace", "weights", "clusters", "ellipses", "pairs", "responsibilities", "predictive_check",
                "restarts", "segmentation",
            )
        ),
    ),
    ("errors", "Errors", ("vigmm.core.errors",), ("vigmm.core.errors.ConfigError",)),
)  # fmt: skip

# Classes whose methods are for users; of the others only the arguments are told.
WITH_METHODS = (
    "BayesianGaussianMixture", "DataFile", "Diagnosis", "Fit", "NumpyroFit", "Outcome", "Posterior", "Source",
    "Summary",
)  # fmt: skip


def pages() -> dict[str, tuple[str, str]]:
    """Title and Markdown of each page, by its address."""
    found = {}
    for name, title, modules, more in PAGES:
        public = [f"{home}.{one}" for one, home in vigmm._EXPORTS.items() if home in modules]
        body = "\n\n".join(map(_entry, [*sorted(public), *more]))
        found[f"reference/{name}.md"] = (title, f"# {title}\n\n{body}\n")
    left = set(vigmm._EXPORTS.values()) - {home for _, _, modules, _ in PAGES for home in modules}
    assert not left, f"no page of the reference has the public names of {left}"
    return found


def _entry(path: str) -> str:
    methods = path.rpartition(".")[2] in WITH_METHODS
    return f"::: {path}" if methods else f"::: {path}\n    options:\n      members: false"
