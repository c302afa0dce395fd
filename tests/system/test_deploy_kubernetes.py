# SPDX-License-Identifier: Apache-2.0
"""deploy/kubernetes and deploy/helm: do the objects hang together, and do pods and Job do what they are for."""

import configparser
import copy
import json
import os
import re
import subprocess

import pytest
import yaml

import harness
from manifests import CHART, KUBERNETES, chart, containers, kustomize, name_of, of_kind, pod_of, selector_of

USER = 10001
SECRET = {"clickhouse.password", "admin.key"}
VARIANTS = {
    **{name: (lambda name=name: kustomize(KUBERNETES / name)) for name in ("base", "public", "hpa", "keda")},
    "prometheus": lambda: kustomize(KUBERNETES / "base") + kustomize(KUBERNETES / "prometheus"),
    "adopt": lambda: kustomize(KUBERNETES / "base") + kustomize(KUBERNETES / "adopt"),
    "chart": chart,
    "chart of another name": lambda: chart(release="events"),
    "chart with all": lambda: chart({
        "autoscaling": {"by": "keda"}, "podMonitor": True, "adopt": ["journal-alloy-3", "journal-alloy-4"],
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}}, "journal": {"storageClass": "fast"},
        "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "k", "operator": "Exists"}], "podAnnotations": {"c": "d"}}),
    "chart with hpa": lambda: chart({"autoscaling": {"by": "hpa"}}),
}


@pytest.fixture(params=VARIANTS, scope="module")
def objects(request):
    return VARIANTS[request.param]()


def fits(selector, labels):
    return selector.items() <= labels.items()


def ini_of(objects):
    (config,) = of_kind(objects, "ConfigMap")
    return config["data"]["alloy.ini"]


def keys_of(text):
    ini = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(" ;",))
    ini.read_string(text)
    return ini


def below(path, folder):
    return path.startswith(folder + "/")


def test_names_and_selectors_lead_to_what_is_meant(objects):
    names = [(thing["kind"], name_of(thing)) for thing in objects]
    assert len(set(names)) == len(names)
    (alloy,) = of_kind(objects, "StatefulSet")
    labels, _ = pod_of(alloy)
    assert fits(alloy["spec"]["selector"]["matchLabels"], labels)
    (head,) = [service for service in of_kind(objects, "Service") if service["spec"].get("clusterIP") == "None"]
    assert alloy["spec"]["serviceName"] == name_of(head)
    assert len(of_kind(objects, "Service")) > 1 and len(of_kind(objects, "PodDisruptionBudget")) == 1
    for thing in objects:
        if thing["kind"] in ("Service", "PodDisruptionBudget", "PodMonitor"):
            assert fits(selector_of(thing), labels), name_of(thing)
            for job in of_kind(objects, "Job"):
                assert not fits(selector_of(thing), pod_of(job)[0]), f"{name_of(thing)} leads to a Job"
        if thing["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert thing["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name_of(alloy)}
            assert "replicas" not in alloy["spec"]
    for spread in pod_of(alloy)[1]["topologySpreadConstraints"]:
        assert fits(spread["labelSelector"]["matchLabels"], labels)


def test_ports_lead_to_what_alloyd_listens_on(objects):
    (alloy,) = of_kind(objects, "StatefulSet")
    (container,) = containers(alloy)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    ini = keys_of(ini_of(objects))
    assert ports == {part: int(ini[section]["listen"].rpartition(":")[2])
                     for part, section in (("events", "server"), ("admin", "admin"))}
    for service in of_kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports and port["name"] == port["targetPort"]
            assert port["name"] == "events" or service["spec"].get("clusterIP") == "None", "figures are not for clients"
    for monitor in of_kind(objects, "PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == "admin" and endpoint["authorization"]["credentials"]["key"] in SECRET
    for probe, path in (("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container[probe]["httpGet"] == {"path": path, "port": "events"}


def test_pods_have_what_they_mount_and_need_no_root(objects):
    ini = keys_of(ini_of(objects))
    for thing in [thing for thing in objects if pod_of(thing)]:
        _, spec = pod_of(thing)
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == USER
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = [claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])]
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in [name_of(part) for part in of_kind(objects, "ConfigMap")]
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440  # for the group, which is fsGroup
        for container in containers(thing):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True and security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) == set(volumes) | set(claims)
            assert mounts["configuration"] == "/etc/alloy"
            for section in ("journal", "dead_letter"):
                assert below(ini[section]["dir"], mounts["journal"]), "only the volume can be written"
            for path in (ini["admin"]["key_file"], ini["clickhouse"]["password_file"]):
                assert below(path, mounts["secrets"]) and os.path.basename(path) in SECRET


def test_a_pod_has_time_to_drain(objects):
    drain = keys_of(ini_of(objects))["drain"]
    linger, timeout = (int(re.fullmatch(r"(\d+)s", drain[key])[1]) for key in ("linger", "timeout"))
    (alloy,) = of_kind(objects, "StatefulSet")
    assert pod_of(alloy)[1]["terminationGracePeriodSeconds"] >= linger + timeout + 10
    probe = containers(alloy)[0]["readinessProbe"]
    assert linger > probe["periodSeconds"] * probe["failureThreshold"], "readiness has failed before it stops to listen"
    assert set(alloy["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}


def test_a_job_adopts_the_journal_that_a_pod_would_have(objects):
    ini = keys_of(ini_of(objects))
    (alloy,) = of_kind(objects, "StatefulSet")
    (claim,) = alloy["spec"]["volumeClaimTemplates"]
    for job in of_kind(objects, "Job"):
        adopt, letters = containers(job)
        assert adopt["command"] == ["alloyctl", "journal", "adopt", ini["journal"]["dir"]]
        assert letters["command"] == ["alloyctl", "dead-letter", "list", ini["dead_letter"]["dir"]]
        assert adopt["image"] == letters["image"] == containers(alloy)[0]["image"]
        (volume,) = [volume for volume in pod_of(job)[1]["volumes"] if volume["name"] == "journal"]
        assert re.fullmatch(rf"{name_of(claim)}-{name_of(alloy)}-\d+", volume["persistentVolumeClaim"]["claimName"])
        # Labels end at 63 characters, and a Job's name is one of its pods'.
        assert len(name_of(job)) <= 63


def test_the_configuration_is_good(objects, tmp_path):
    for name in SECRET:
        (tmp_path / name).write_text("secret\n")
    (tmp_path / "alloy.ini").write_text(ini_of(objects).replace("/run/alloy/", f"{tmp_path}/"))
    run = subprocess.run([harness.BUILD / "alloyd", "--check", "--config", tmp_path / "alloy.ini"], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 0, run.stderr


def bare(thing):
    """Without the label that tells releases of a chart apart, and what Kubernetes itself would add."""
    thing = copy.deepcopy(thing)

    def strip(part):
        if isinstance(part, dict):
            part.pop("app.kubernetes.io/instance", None)
            part.pop("imagePullPolicy", None)
            for value in part.values():
                strip(value)
        elif isinstance(part, list):
            for value in part:
                strip(value)

    strip(thing)
    return thing


def by_name(objects):
    return {(thing["kind"], name_of(thing)): bare(thing) for thing in objects}


@pytest.mark.parametrize("values, folders", [
    ({}, ["base"]), ({"autoscaling": {"by": "hpa"}}, ["hpa"]), ({"podMonitor": True}, ["base", "prometheus"])])
def test_the_chart_gives_the_same_objects_as_kustomize(values, folders):
    plain = [thing for folder in folders for thing in kustomize(KUBERNETES / folder)]
    assert by_name(chart(values)) == by_name(plain)


def test_the_chart_gives_the_same_scaled_object_and_job_but_for_names():
    (scaled,) = of_kind(chart({"autoscaling": {"by": "keda"}}), "ScaledObject")
    (plain,) = of_kind(kustomize(KUBERNETES / "keda"), "ScaledObject")
    query = scaled["spec"]["triggers"][1]["metadata"]
    query["query"] = query["query"].replace(',pod=~"alloy-[0-9]+"', "")
    assert bare(scaled) == bare(plain)
    (job,) = of_kind(chart({"adopt": ["journal-alloy-3"]}), "Job")
    (plain,) = of_kind(kustomize(KUBERNETES / "adopt"), "Job")
    job["metadata"]["name"] = name_of(plain)
    assert bare(job) == bare(plain)


def test_a_chart_with_another_autoscaler_is_refused():
    with pytest.raises(AssertionError, match="autoscaling.by is none, hpa or keda"):
        chart({"autoscaling": {"by": "hand"}})


def test_the_chart_has_the_version_of_alloyd():
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = re.search(r"^project\(\S+ VERSION ([\d.]+)", (harness.ROOT / "CMakeLists.txt").read_text(), re.M)[1]
    assert about["appVersion"] == version == kustomize(KUBERNETES / "adopt")[0]["spec"]["template"]["spec"]["containers"][0][
        "image"].partition(":")[2]


# ---- the autoscaler's question


def queries():
    adapter = yaml.safe_load((KUBERNETES / "hpa" / "adapter.yaml").read_text())
    (rule,) = adapter["externalRules"]
    (hpa,) = of_kind(kustomize(KUBERNETES / "hpa"), "HorizontalPodAutoscaler")
    metric = hpa["spec"]["metrics"][1]["external"]
    assert metric["metric"]["name"] == rule["name"]["as"]
    (scaled,) = of_kind(kustomize(KUBERNETES / "keda"), "ScaledObject")
    asked = scaled["spec"]["triggers"][1]["metadata"]
    assert asked["threshold"] == metric["target"]["value"] == "10"
    assert hpa["spec"]["behavior"] == scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return [rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="default"'), asked["query"]]


@pytest.mark.parametrize("up, pending, value", [
    ("1 1", "40 1", 40), ("1 1", "0.2 0.1", 0.2), ("1 0", "40 1", 10), ("0 0", "400 400", 10), (None, None, 10)])
def test_the_autoscaler_follows_the_oldest_event_unless_clickhouse_is_away(tmp_path, up, pending, value):
    first, second = queries()
    assert first == second
    series = [{"series": f'{name}{{namespace="default",pod="alloy-{i}"{more}}}', "values": one}
              for name, values, more in (("alloy_clickhouse_up", up, ""), ("alloy_oldest_pending_seconds", pending, ',stream="e"'))
              for i, one in enumerate((values or "").split())]
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [{"interval": "1m", "input_series": series,
                                       "promql_expr_test": [{"expr": first, "eval_time": "0m",
                                                             "exp_samples": [{"labels": "{}", "value": value}]}]}]}))
    run = subprocess.run(["promtool", "test", "rules", "test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


# ---- a pod that is gone for good


class Pod(harness.Alloyd):
    """A command of a manifest, with its mounts, its user and its read-only root."""

    def __init__(self, folder, volume, ini, command):
        super().__init__(folder, {})
        self.volume, self.command = folder / volume, command
        self.volume.mkdir(exist_ok=True)
        os.chown(self.volume, USER, USER)
        # What the test's Redis and ClickHouse have otherwise, and ports that may be taken.
        for pattern, value in ((r"0\.0\.0\.0:8080", f"127.0.0.1:{self.port}"), (r"0\.0\.0\.0:8081", f"127.0.0.1:{self.admin_port}"),
                               (r"user = alloy\npassword_file = .*", "")):
            ini, count = re.subn(pattern, value, ini)
            assert count == 1, pattern
        self.ini.write_text(ini)

    def spawn_only(self, env=None):
        script = f"""
            set -e
            mount --make-rprivate /
            mount -t tmpfs -o mode=755 tmpfs /mnt
            mkdir /mnt/bin /mnt/etc /mnt/etc/alloy
            cp {harness.BUILD}/alloyd {harness.BUILD}/alloyctl /mnt/bin
            cp /etc/hosts /etc/nsswitch.conf /etc/passwd /etc/group /etc/ld.so.cache /mnt/etc
            cp {self.ini} /mnt/etc/alloy/alloy.ini
            chmod 644 /mnt/etc/alloy/alloy.ini
            mkdir /mnt/lib /mnt/lib/alloy /mnt/run /mnt/run/alloy
            echo secret >/mnt/run/alloy/admin.key
            mount --bind {self.volume} /mnt/lib/alloy
            mount --bind /mnt/etc /etc
            mount --bind /mnt/run /run
            mount --rbind /mnt/lib /var/lib
            mount -o remount,ro /mnt
            mount -o remount,bind,ro /
            cd /
            PATH=/mnt/bin:$PATH exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs \\
                --bounding-set=-all --inh-caps=-all {" ".join(self.command)}
        """
        self.spawn(["unshare", "--mount", "sh", "-c", script], env)

    def readyz(self):
        try:
            return self.post("", "/readyz", method="GET").status == 200
        except (OSError, harness.http.client.HTTPException):
            return False


def test_the_job_brings_what_a_lost_pod_had_to_clickhouse_once(request, tmp_path, redis, own_clickhouse):
    objects = kustomize(KUBERNETES / "base") + kustomize(KUBERNETES / "adopt")
    ini = ini_of(objects)
    for there, here in (("redis://redis:6379/0", redis.url), ("http://clickhouse:8123", own_clickhouse.url)):
        assert ini.count(there) == 1
        ini = ini.replace(there, here)
    lost, other = (Pod(tmp_path, f"journal-alloy-{n}", ini, ["alloyd"]) for n in (3, 0))
    (job,) = of_kind(objects, "Job")
    adopt, letters = (Pod(tmp_path, "journal-alloy-3", ini, part["command"]) for part in containers(job))
    pods = request.node.alloy_processes = [lost, other, adopt, letters]

    def rows():
        return own_clickhouse.count("default.events"), own_clickhouse.count("default.events", "uniqExact(event_id)")

    try:
        lost.start()
        other.start()
        harness.wait_until(lambda: all("table looked at" in pod.log() for pod in (lost, other)), "ClickHouse known")
        own_clickhouse.kill()
        known = redis.command("DBSIZE")
        events = [harness.event(f"j-{n}") for n in range(200)]
        assert lost.post("\n".join([*events, harness.event("bad", ts="never")])).status == 202
        harness.wait_until(lambda: redis.command("DBSIZE") >= known + 201, "the claims")
        lost.kill()
        # Its client never saw the answer and sends them again: another pod takes them, but they are the lost pod's.
        assert other.post("\n".join([*events[100:], harness.event("new")])).status == 202
        own_clickhouse.start()
        harness.wait_until(lambda: rows() == (1, 1), lambda: f"the one that is new: {rows()}")
        adopt.spawn_only()
        assert adopt.wait() == 0, adopt.log()
        assert rows() == (201, 201)
        letters.spawn_only()
        assert letters.wait() == 0 and re.search(r"\b1 event", letters.log()), letters.log()
        # Done again it does nothing.
        adopt.spawn_only()
        assert adopt.wait() == 0 and rows() == (201, 201)
    finally:
        for pod in pods:
            pod.finish()
