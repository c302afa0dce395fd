# SPDX-License-Identifier: Apache-2.0
"""Reads deploy/: what kustomize and Helm would give Kubernetes, as lists of objects."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile

import yaml

import harness

KUBERNETES = harness.ROOT / "deploy" / "kubernetes"
CHART = harness.ROOT / "deploy" / "helm" / "alloy"


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(folder):
    """The objects of a folder, for the little of kustomize that deploy/ uses; anything else is an error."""
    given = yaml.safe_load((folder / "kustomization.yaml").read_text())
    given = {key: value for key, value in given.items() if key not in ("apiVersion", "kind")}
    objects = []
    for name in given.pop("resources"):
        path = folder / name
        objects += kustomize(path) if path.is_dir() else documents(path.read_text())
    assert given.pop("generatorOptions", {"disableNameSuffixHash": True}) == {"disableNameSuffixHash": True}
    for source in given.pop("configMapGenerator", []):
        assert set(source) == {"name", "files", "options"}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"name": source["name"], **source["options"]},
                        "data": {name: (folder / name).read_text() for name in source["files"]}})
    for image in given.pop("images", []):
        for container in [c for o in objects for c in containers(o)]:
            if container["image"] == image["name"]:
                container["image"] += ":" + image["newTag"]
    for patch in given.pop("patches", []):
        (target,) = [o for o in objects if o["kind"] == patch["target"]["kind"] and name_of(o) == patch["target"]["name"]]
        assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]
        del target["spec"]["replicas"]
    assert given == {}, f"{folder} uses more of kustomize: {list(given)}"
    return objects


@functools.cache
def renderer():
    """tests/deploy/chart.go as a program, made with as few processes at a time as Go can."""
    folder = tempfile.mkdtemp(prefix="alloy-chart-")
    atexit.register(shutil.rmtree, folder, True)
    program = f"{folder}/chart"
    run = subprocess.run(["go", "build", "-p", "1", "-o", program, harness.ROOT / "tests/deploy/chart.go"], capture_output=True,
                         text=True, check=False, env=dict(os.environ, GOMAXPROCS="1"))
    assert run.returncode == 0, run.stderr
    return program


def chart(values=None, release="alloy"):
    """The objects of the chart, rendered by tests/deploy/chart.go; values replace or extend those of values.yaml."""
    merged = yaml.safe_load((CHART / "values.yaml").read_text())
    for name, value in (values or {}).items():
        assert name in merged, name
        merged[name] = {**merged[name], **value} if isinstance(value, dict) else value
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    given = {"Values": merged, "Release": {"Name": release, "Namespace": "default"},
             "Chart": {"Name": about["name"], "AppVersion": about["appVersion"]}}
    run = subprocess.run([renderer(), CHART], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return documents(run.stdout)


def name_of(thing):
    return thing["metadata"]["name"]


def pod_of(thing):
    """Labels and spec of the pods that it makes; None: it makes none."""
    if thing["kind"] not in ("StatefulSet", "Job"):
        return None
    template = thing["spec"]["template"]
    return template["metadata"]["labels"], template["spec"]


def containers(thing):
    if pod_of(thing) is None:
        return []
    _, spec = pod_of(thing)
    return spec.get("initContainers", []) + spec["containers"]


def of_kind(objects, kind):
    return [thing for thing in objects if thing["kind"] == kind]


def selector_of(thing):
    """The labels by which a Service, PodDisruptionBudget or PodMonitor finds pods."""
    selector = thing["spec"]["selector"]
    return selector if thing["kind"] == "Service" else selector["matchLabels"]
