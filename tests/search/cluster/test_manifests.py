"""The manifests against their readers: Ray's own validation, and the schemas of Kubernetes and of KubeRay.

KubeRay's CRD is not part of anything that the tests install, so `RAYJOB` writes out what its API reference says of
ray.io/v1 (RayJobSpec, RayClusterSpec and what they hold, from KubeRay 1.5.1 on): names, types, required fields and
enumerations. A field that it does not know is an error, as it is for `kubectl apply` with strict validation. Pods are
held to Kubernetes' own schema.
"""

import copy
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from search.cluster.manifests import MANIFESTS, manifest
from search.commands.show import show
from search.errors import SearchError

ROOT = Path(__file__).resolve().parents[3]
LAUNCHER = [name for name in MANIFESTS if name.startswith("cluster")]

TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
}


def closed(*required: str, **properties: object) -> dict[str, object]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def one_of(*values: str) -> dict[str, object]:
    return {"type": "string", "enum": list(values)}


HEAD_GROUP = closed(
    "template",
    template=POD,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    enableIngress=FLAG,
    headService={"type": "object"},
)
WORKER_GROUP = closed(
    *("template", "groupName", "minReplicas", "maxReplicas"),
    template=POD,
    groupName=TEXT,
    rayStartParams=TEXTS,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    suspend=FLAG,
    scaleStrategy={"type": "object"},
)
CLUSTER = closed(
    "headGroupSpec",
    rayVersion=TEXT,
    authOptions=closed(mode=one_of("disabled", "token")),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=closed(
        idleTimeoutSeconds=COUNT,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        version=one_of("v1", "v2"),
        image=TEXT,
        imagePullPolicy=TEXT,
        env={"type": "array"},
        resources={"type": "object"},
    ),
    headServiceAnnotations=TEXTS,
    suspend=FLAG,
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
)
RAYJOB = closed(
    *("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed("name", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=closed(
        "rayClusterSpec",
        entrypoint=TEXT,
        submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        backoffLimit=COUNT,
        activeDeadlineSeconds=COUNT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        suspend=FLAG,
        jobId=TEXT,
        metadata=TEXTS,
        runtimeEnvYAML=TEXT,
        submitterPodTemplate=POD,
        rayClusterSpec=CLUSTER,
    ),
)


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load(manifest(name))


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """What Ray's cluster launcher does with a file before it asks the cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_the_projects_file_is_the_one_that_show_prints():
    assert (ROOT / "cluster.yaml").read_text() == manifest("cluster")


@pytest.mark.parametrize("name", MANIFESTS)
def test_show_prints_them_to_the_letter(name, capsys):
    assert show(name) == 0
    assert capsys.readouterr().out == manifest(name)


def test_show_knows_their_names():
    with pytest.raises(SearchError, match=r"cluster-onprem, kuberay, but got 'kubray'.*kuberay"):
        show("kubray")


@pytest.mark.parametrize("name", LAUNCHER)
def test_rays_launcher_accepts(name):
    prepared = validate(read(name))
    assert set(read(name)) - {"min_workers"} <= set(prepared)
    head = prepared["available_node_types"][prepared["head_node_type"]]
    assert all(kind["min_workers"] == 0 for kind in prepared["available_node_types"].values())
    assert name == "cluster-onprem" or head["resources"] == {"CPU": 0, "GPU": 0}


def test_rays_launcher_refuses_what_is_wrong():
    config = read("cluster")
    for change in ({"max_worker": 2}, {"head_node_type": "boss"}, {"max_workers": "many"}):
        with pytest.raises((ValueError, jsonschema.ValidationError)):
            validate(config | change)


@pytest.mark.parametrize("name", LAUNCHER)
def test_every_node_authenticates_by_a_token_that_is_not_in_the_file(name):
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"][0]
    starts = [config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    for start in starts:
        assert re.search(r"export .*RAY_AUTH_MODE=token.*; ray start", start)
        assert "RAY_USAGE_STATS_ENABLED=0" in start
    assert "--disable-usage-stats" in starts[0]


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_head_runs_no_trial_and_its_dashboard_is_on_loopback(name):
    words = read(name)["head_start_ray_commands"][-1].split()
    assert {"--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"} <= set(words)


def test_workers_in_a_cloud_are_spot_with_a_gpu():
    aws = read("cluster")["available_node_types"]["gpu_spot"]
    gcp = read("cluster-gcp")["available_node_types"]["gpu_spot"]
    assert aws["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert {"preemptible": True} in gcp["node_config"]["scheduling"]
    assert aws["resources"]["GPU"] == gcp["resources"]["GPU"] == 1


@pytest.mark.parametrize("name", LAUNCHER)
def test_idle_nodes_go_and_results_are_kept_elsewhere(name):
    config = read(name)
    assert 0 < config["idle_timeout_minutes"] <= 30
    roots = {"cluster": "s3://<bucket>/", "cluster-gcp": "gs://<bucket>/", "cluster-onprem": "<shared-folder>/"}
    for kind in ("head", "worker"):
        assert f"RECSWEEP_STORE={roots[name]}recsweep;" in config[f"{kind}_start_ray_commands"][-1]


@pytest.mark.parametrize("name", LAUNCHER)
def test_the_commands_are_valid_shell(name):
    config = read(name)
    commands = [line for key, lines in config.items() if key.endswith("_commands") for line in lines]
    assert commands
    for command in commands:
        # Placeholders would be redirections.
        script = re.sub(r"<[a-z0-9-]+>", "placeholder", command)
        subprocess.run(["bash", "-n", "-c", script], check=True)


@pytest.mark.slow
def test_the_setup_installs_the_newest_wheel(tmp_path):
    """The command itself, with a pip that says what it is given."""
    home = tmp_path / "home"
    for name in ("recsweep-env/bin", "recsweep-wheel"):
        (home / name).mkdir(parents=True)
    pip = home / "recsweep-env/bin/pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o700)
    for age, version in ((100, "0.1"), (0, "0.2"), (200, "0.0")):
        wheel = home / f"recsweep-wheel/recsweep-{version}-py3-none-any.whl"
        wheel.write_text("")
        os.utime(wheel, (1e9 - age, 1e9 - age))
    command = read("cluster")["setup_commands"][-1]
    result = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == f"{home}/recsweep-wheel/recsweep-0.2-py3-none-any.whl[cluster]"


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_machine_and_no_secret_is_named(name):
    text = manifest(name)
    assert not re.search(r"\b(ami|subnet|sg|vpc|i)-[0-9a-f]{8,}", text)
    assert not re.search(r"\b[0-9a-fA-F]{32,}\b|AKIA[0-9A-Z]{16}|-----BEGIN|password", text)
    addresses = set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text))
    assert addresses <= {"127.0.0.1", "0.0.0.0"}


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def fill_in(text: str) -> str:
    return re.sub(r"<[a-z0-9-]+>", "placeholder", text)


def test_kuberay_accepts_the_job():
    jsonschema.validate(read("kuberay"), RAYJOB)


@pytest.mark.slow
def test_kubernetes_accepts_its_pods():
    for template in pods(yaml.safe_load(fill_in(manifest("kuberay")))):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(
                pod | {"spec": {"container": []}}, kubernetes_validate.latest_version(), strict=True
            )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.entrypoints", "x"),
        ("spec.rayClusterSpec.authOptions.mode", "password"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.backoffLimit", "0"),
        ("spec.submissionMode", "Job"),
        ("apiVersion", "ray.io/v1alpha1"),
    ],
)
def test_kuberay_would_refuse_what_is_wrong(path, value):
    job = read("kuberay")
    *parents, last = path.split(".")
    inner = job
    for key in parents:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAYJOB)


def test_the_job_has_a_token_a_head_without_trials_and_workers_on_demand():
    cluster = read("kuberay")["spec"]["rayClusterSpec"]
    head, (worker,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert (head["rayStartParams"]["num-cpus"], head["rayStartParams"]["num-gpus"]) == ("0", "0")
    assert worker["minReplicas"] == worker["replicas"] == 0 and cluster["enableInTreeAutoscaling"] is True
    assert all("RAY_USAGE_STATS_ENABLED" in json.dumps(template) for template in pods(read("kuberay")))


def test_the_versions_are_those_that_the_project_asks_for():
    import ray

    job = manifest("kuberay")
    assert read("kuberay")["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert f"rayproject/ray:{ray.__version__}-" in job
