#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What kubectl says of deploy/: kustomize gives what the tests take it for, and Kubernetes' own types know every field of
StatefulSet, Job and Service. Not in the suite: Debian's kubectl (1.20) is older than what the manifests use; take 1.27 or later.

    tests/deploy/kubectl.py
"""

import json
import pathlib
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from manifests import KUBERNETES, documents, kustomize, name_of, pod_of, selector_of  # noqa: E402
from test_deploy_kubernetes import VARIANTS  # noqa: E402


def kubectl(*words, text=None):
    run = subprocess.run(["kubectl", *words], input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return documents(run.stdout)


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml")))
def test_kustomize_makes_of_them_what_the_tests_take_them_for(folder):
    made = kubectl("kustomize", str(KUBERNETES / folder))
    assert {(o["kind"], name_of(o)): o for o in made} == {(o["kind"], name_of(o)): o for o in kustomize(KUBERNETES / folder)}


def missing(given, kept, path=""):
    """Paths of what was given and not kept."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                yield f"{path}.{key}"
            else:
                yield from missing(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list):
        for i, (value, other) in enumerate(zip(given, kept)):
            yield from missing(value, other, f"{path}[{i}]")


@pytest.mark.parametrize("variant", ["base", "public", "adopt", "chart with all"])
def test_kubernetes_own_types_know_every_field_of_what_makes_pods_and_of_services(variant):
    seen = set()
    for thing in VARIANTS[variant]():
        if pod_of(thing):
            words = ["image", "*=other"]
        elif thing["kind"] == "Service":
            words = ["selector", ",".join(f"{key}={value}" for key, value in selector_of(thing).items())]
        else:
            continue
        # Either reads the object into its types, which drops what these do not know.
        (kept,) = kubectl("set", words[0], "--local", "-f", "-", words[1], "-o", "yaml", text=json.dumps(thing))
        assert list(missing(thing, kept)) == []
        (kept,) = kubectl("set", words[0], "--local", "-f", "-", words[1], "-o", "yaml",
                          text=json.dumps({**thing, "spec": {**thing["spec"], "unknown": 1}}))
        assert "unknown" not in kept["spec"]
        seen.add(thing["kind"])
    assert {"StatefulSet", "Service"} <= seen


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--import-mode=importlib", __file__]))
