"""scikit-learn's own checks of estimators, every one, with no expected failure."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from vigmm.sklearn import BayesianGaussianMixture


@parametrize_with_checks([BayesianGaussianMixture()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_the_check_that_needs_array_api_in_scipy(root):
    """SciPy reads the setting once, when it is imported."""
    check = "check_array_api_input"
    code = f"""
    import pytest, sys
    sys.exit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", {__file__!r}, "-k", {check!r}, "-rA"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=110, cwd=root,
        env=os.environ | {"SCIPY_ARRAY_API": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
