"""The files of doc/cluster: YAML and shell that parse, commands that this program understands, pins that agree."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from mimicmotion.cli import build_parser, parse_arguments
from mimicmotion.commands import turbo

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "doc" / "cluster"
SCRIPTS = sorted(FOLDER.glob("*.sbatch"))


def words_of(command):
    """The arguments of the turbo run in a shell command, read by its parser."""
    words = shlex.split(command.replace("\\\n", " "))
    place = next(place for place, word in enumerate(words) if word.endswith("inference_raw_batch_turbo.py"))
    return parse_arguments(build_parser("Doc.", turbo.GROUPS), words[place + 1 :])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_batch_script_is_shell_with_a_command_that_is_understood(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text = path.read_text()
    assert text.startswith("#!/bin/bash\n")
    options = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
    assert options and all(re.fullmatch(r"--[a-z-]+(=[\w@%-]+)?", option) for option in options)
    arguments = words_of(text[text.index("srun ") :])
    assert arguments.shard == "auto" or (arguments.workers, arguments.ray_address) == ("auto", "auto")


def test_the_ray_job_is_whole():
    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "requirements-cluster.txt").read_text().splitlines()
    assert words_of(job["spec"]["entrypoint"]).ray_address == "auto"
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    # Nobody works beside the run itself, and all see the same files.
    assert head["rayStartParams"]["num-cpus"] == "0"
    for group in [head, *workers]:
        pod = group["template"]["spec"]
        mounts = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]} == {"data"}
    for group in workers:
        container = group["template"]["spec"]["containers"][0]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
