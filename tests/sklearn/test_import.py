"""scikit-learn is optional: nothing else imports it, and its absence is said in words."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_else_imports_scikit_learn(root):
    own = root / "vigmm" / "sklearn"
    imports = re.compile(r"^(from|import) (sklearn|vigmm\.sklearn)\b", re.MULTILINE)
    others = [path for path in (root / "vigmm").rglob("*.py") if own not in path.parents]
    assert [str(path) for path in others if imports.search(path.read_text())] == []
    assert any(imports.search(path.read_text()) for path in own.glob("*.py"))
    assert run("import sys, vigmm, vigmm.sklearn; print('sklearn' in sys.modules)") == "False"


def test_without_scikit_learn_the_remedy_is_named():
    code = """
    import sys
    sys.modules["sklearn"] = None
    import vigmm.sklearn
    try:
        vigmm.sklearn.BayesianGaussianMixture
    except ImportError as error:
        print(isinstance(error, vigmm.VigmmError), error)
    """
    assert run(code) == "True vigmm.sklearn needs scikit-learn; pip install 'vigmm[sklearn]'"
