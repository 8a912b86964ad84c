"""The files in configs/launch say what vigmm, and what starts it, understand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

from vigmm.cli.machines import EXIT_AGAIN

LAUNCH = Path(__file__).resolve().parents[2] / "configs" / "launch"


def test_kubernetes():
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    words = container["args"][0].split()
    told = {option: words[words.index(option) + 1] for option in words if option.startswith("--")}
    # The name of pod 0 is that of the job and its number, below the service that selects the job's pods.
    port = service["spec"]["ports"][0]["port"]
    assert told["--coordinator"] == f"{name}-0.{service['metadata']['name']}:{port}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert service["spec"]["clusterIP"] == "None"
    assert spec["completionMode"] == "Indexed"
    assert told["--process-id"] == '"$JOB_COMPLETION_INDEX"'
    assert told["--processes"] == str(spec["completions"]) == str(spec["parallelism"])
    # Kubernetes accepts a policy of failures with this only.
    assert pod["restartPolicy"] == "Never"
    again, others = spec["podFailurePolicy"]["rules"]
    assert (again["action"], again["onExitCodes"]["values"]) == ("Ignore", [EXIT_AGAIN])
    assert others["onExitCodes"]["operator"] == "NotIn"
    assert {0, EXIT_AGAIN} < set(others["onExitCodes"]["values"])
    # The run folder is found again by the pods that come after.
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"]


def test_slurm():
    text = (LAUNCH / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, re.M))
    # JAX counts the GPUs of a node, which all of its tasks must see, and takes one for each task.
    assert "gpus-per-task" not in options
    assert options["gpus-per-node"] == options["ntasks-per-node"]
    assert options["signal"].startswith("TERM@")  # to the tasks, not to the script
    assert f"  {EXIT_AGAIN} | " in text


def test_ray():
    tree = ast.parse((LAUNCH / "ray_job.py").read_text())
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(values["AGAIN"]) == EXIT_AGAIN
    (worker,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    # Of an actor: Ray refuses options of tasks, such as max_retries, when the file is read.
    assert [keyword.arg for keyword in worker.decorator_list[0].keywords] == ["num_gpus"]
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {"--coordinator", "--processes", "--process-id"} < words
