"""What helm/tests/chart.sh asks of the chart."""

import copy
import difflib
import os
import pathlib
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent / "kuroshio"
# The oldest and the newest that EKS offers, as far as there are schemas.
KUBERNETES = ["1.30", "1.34"]
# Of others' resources there are no schemas here: what must be in them is written out below.
FOREIGN = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject"}


def helm(*args, values=None):
    """Runs helm; gives its exit code and what it said."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        if values is not None:
            yaml.safe_dump(values, file)
            file.flush()
            args = [*args, "--values", file.name]
        done = subprocess.run(["helm", *args], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def render(values):
    # A helm that was compiled by hand takes itself to be of Kubernetes 1.20.
    return helm("template", "kuroshio", str(CHART), "--namespace", "kafka", "--kube-version", KUBERNETES[-1], values=values)


def template(values):
    code, said = render(values)
    assert code == 0, said
    return said


def resources(text):
    found = {}
    for resource in yaml.safe_load_all(text):
        if resource:
            key = (resource["kind"], resource["metadata"]["name"])
            assert key not in found, f"{key} twice"
            found[key] = resource
    return found


def one(found, kind):
    of_kind = [resource for (of, _), resource in found.items() if of == kind]
    assert len(of_kind) == 1, f"{len(of_kind)} of {kind}"
    return of_kind[0]


def sets():
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((HERE / "values").glob("*.yaml"))}


def validate(found):
    for (kind, name), resource in found.items():
        for version in KUBERNETES if kind not in FOREIGN else []:
            kubernetes_validate.validate(resource, version, strict=True)


def restricted(spec):
    """Kubernetes' Pod Security Standard of this name, as its page lists it, and what we promise beyond."""
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] and pod["runAsUser"] > 0 and pod["seccompProfile"]["type"] == "RuntimeDefault"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert not spec.get(key), key
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec["volumes"]:
        assert set(volume) - {"name"} <= allowed, volume
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, security
        assert "hostPort" not in str(container.get("ports")), container
        assert container["resources"]["limits"]["memory"], container
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}, mounted
        # A file that is mounted by itself never changes.
        assert not any("subPath" in mount for mount in container["volumeMounts"])
    assert spec["automountServiceAccountToken"] is False


def accepted(found, binary):
    """The binary takes the configuration that pods get."""
    config = one({key: value for key, value in found.items() if "dashboard" not in key[1]}, "ConfigMap")["data"]["kuroshio.yaml"]
    environment = {"POD_NAME": "kuroshio-0", "JP_CLIENT_SECRET": "x", "DELIVERY": "at_least_once", "PATH": os.environ["PATH"]}
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "secret").write_text("x")
        config = config.replace("${file:/secrets/tw/password}", f"${{file:{folder}/secret}}")
        config = config.replace("${file:/secrets/http/token}", f"${{file:{folder}/secret}}")
        path = pathlib.Path(folder) / "kuroshio.yaml"
        path.write_text(config)
        done = subprocess.run(
            [binary, "check", "--offline", "--config", path], capture_output=True, text=True, env=environment
        )
    assert done.returncode == 0, done.stdout + done.stderr + config


def reached(found):
    """The ports that pods may go to."""
    rules = one(found, "NetworkPolicy")["spec"]["egress"]
    return {port["port"] for rule in rules for port in rule["ports"]}


def chart_says(found, name):
    """What each set is there for."""
    set_ = one(found, "StatefulSet")
    pod = set_["spec"]["template"]["spec"]
    [container] = pod["containers"]
    config = yaml.safe_load(found["ConfigMap", set_["metadata"]["name"]]["data"]["kuroshio.yaml"])
    memory = container["resources"]["limits"]["memory"]
    # The headless service is there under the name that the pods' names end in.
    assert found["Service", set_["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    probes = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    assert [probe["path"] for probe in probes] == ["/livez", "/readyz"]
    if name == "smallest":
        assert set_["spec"]["replicas"] == 2 and pod["terminationGracePeriodSeconds"] == 45 and memory == "448Mi"
        assert config["instance"] == "${env:POD_NAME}" and "region" not in config
        assert len(found) == 7, found.keys()
    elif name == "msk":
        assert config["region"] == "jp" and config["clusters"]["jp"]["tls"] == {}
        assert pod["terminationGracePeriodSeconds"] == 105 and "replicas" not in set_["spec"]
        account = one(found, "ServiceAccount")
        assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].endswith("role/kuroshio-jp")
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        scaled = one(found, "ScaledObject")["spec"]
        assert scaled["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "kuroshio"}
        # The flow back runs in Taiwan.
        [trigger] = scaled["triggers"]
        assert trigger == {
            "type": "kafka",
            "metadata": {
                "bootstrapServers": config["clusters"]["tw"]["bootstrap_servers"],
                "consumerGroup": "kuroshio.tw-jp",
                "lagThreshold": "200000",
                "offsetResetPolicy": "earliest",
                "version": "2.8.0",
                "tls": "enable",
                "sasl": "oauthbearer",
                "saslTokenProvider": "aws_msk_iam",
                "awsRegion": "ap-east-2",
            },
            "authenticationRef": {"name": "keda-kafka-tw"},
        }, trigger
        assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 8)
        monitor = one(found, "PodMonitor")
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert monitor["spec"]["selector"]["matchLabels"].items() <= set_["spec"]["template"]["metadata"]["labels"].items()
        assert monitor["spec"]["podMetricsEndpoints"] == [
            {"path": "/metrics", "port": "http", "scheme": "http", "interval": "15s"}
        ]
        rule = one(found, "PrometheusRule")["spec"]
        ours = yaml.safe_load((CHART / "rules/kuroshio.yaml").read_text())
        for group in ours["groups"]:
            for alert in group["rules"]:
                alert["annotations"] = dict(alert["annotations"])
                alert["annotations"]["runbook_url"] = "https://wiki.example/kuroshio/" + alert["annotations"]["runbook_url"]
        assert rule == ours
        board = found["ConfigMap", "kuroshio-dashboard"]
        assert board["data"]["kuroshio.json"].strip() == (CHART / "dashboards/kuroshio.json").read_text().strip()
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert reached(found) == {53, 80, 443, 4317, 9098}, reached(found)
    elif name == "secrets":
        assert all(probe["scheme"] == "HTTPS" for probe in probes) and container["ports"][0]["containerPort"] == 8443
        assert {"name": "JP_CLIENT_SECRET", "valueFrom": {"secretKeyRef": {"name": "kafka-jp", "key": "client-secret"}}} in container["env"]
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert paths == ["/etc/kuroshio", "/secrets/http", "/secrets/tw"], paths
        [endpoint] = one(found, "ServiceMonitor")["spec"]["endpoints"]
        assert endpoint["scheme"] == "https" and endpoint["authorization"]["credentials"]["name"] == "kuroshio-http"
        selector = one(found, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
        services = [of for (kind, of), it in found.items() if kind == "Service" and selector <= it["metadata"]["labels"].items()]
        assert services == ["kuroshio"], services
        assert reached(found) == {53, 9096, 443}, reached(found)
        hpa = one(found, "HorizontalPodAutoscaler")["spec"]
        assert hpa["maxReplicas"] == 6 and hpa["scaleTargetRef"]["name"] == set_["metadata"]["name"]
    elif name == "three":
        # 2 x (256 + 64 of the flow that has its own) + 96 + 62.5 + 8.
        assert memory == "832Mi", memory
        [trigger] = one(found, "ScaledObject")["spec"]["triggers"]
        assert trigger["metadata"]["query"] == (
            'sum(min by (flow, topic, partition) (kuroshio_lag_records{flow=~"tw-sg|from\\\\.japan"}))'
        ), trigger
        assert trigger["metadata"]["threshold"] == "1000000"
        zone, host = pod["topologySpreadConstraints"]
        assert (zone["whenUnsatisfiable"], host["whenUnsatisfiable"]) == ("DoNotSchedule", "ScheduleAnyway")
    elif name == "everything":
        assert container["image"].startswith("registry.example/kuroshio@sha256:")
        assert config["instance"] == "blue-${env:POD_NAME}" and pod["serviceAccountName"] == "shared"
        assert container["resources"] == {
            "requests": {"cpu": "1", "memory": "512Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        }
        assert pod["terminationGracePeriodSeconds"] == 120 and container["ports"][0]["containerPort"] == 9090
        assert reached(found) == {53, 9092, 9093, 9999}, reached(found)
        assert not any(kind == "ServiceAccount" for kind, _ in found)
    else:
        raise AssertionError(f"nothing is expected of {name}")


def changed(values, path, value):
    """A copy of the values with one of them set, or taken out (None)."""
    values = copy.deepcopy(values)
    place = values
    *ways, last = path
    for way in ways:
        place = place[way] if isinstance(place, list) else place.setdefault(way, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return values


# Of which set, where, what instead, and what helm must say of it. The value itself is never said: it may be a secret.
REFUSED = [
    ("smallest", ["config"], {}, "clusters"),
    ("smallest", ["config", "flows"], None, "flows"),
    ("smallest", ["config", "delivry"], "exactly_once", "delivry"),
    ("smallest", ["config", "defaults", "delivery"], "twice", "delivery"),
    ("smallest", ["config", "instance"], "me", "instance"),
    ("smallest", ["instance"], "kuroshio", "instance"),
    ("smallest", ["replicass"], 2, "replicass"),
    ("smallest", ["replicas"], 257, "replicas"),
    ("smallest", ["region"], "sg", "no flow of config.flows has the target sg"),
    ("smallest", ["config", "shutdown_grace"], "${env:GRACE}", "config.shutdown_grace: the chart cannot reckon"),
    ("smallest", ["config", "shutdown_grace"], "1 fortnight", "config.shutdown_grace: the chart cannot reckon"),
    ("smallest", ["config", "defaults", "memory"], "1 GB", "config.defaults.memory: the chart cannot reckon"),
    ("smallest", ["config", "http"], {"listen": "${env:LISTEN}"}, "config.http.listen must be written out"),
    ("smallest", ["podMonitor"], {"enabled": True, "interval": "60s"}, "interval"),
    ("smallest", ["env"], [{"name": "TW_PASSWORD", "value": "planted"}], "env: TW_PASSWORD must come by valueFrom"),
    ("smallest", ["env"], [{"name": "AWS_SECRET_ACCESS_KEY", "value": "planted"}], "env: AWS_SECRET_ACCESS_KEY must come by valueFrom"),
    ("secrets", ["config", "clusters", "tw", "sasl", "password"], "planted", "config.clusters.tw.sasl.password must be ${env:NAME}"),
    ("secrets", ["config", "clusters", "tw", "sasl", "password"], "planted${env:A}", "config.clusters.tw.sasl.password must be ${env:NAME}"),
    ("secrets", ["config", "clusters", "jp", "sasl", "client_secret"], "planted", "config.clusters.jp.sasl.client_secret must be"),
    ("secrets", ["config", "http", "token"], "planted", "config.http.token must be"),
    ("secrets", ["config", "clusters", "jp", "librdkafka"], {"ssl.key.password": "planted"}, "librdkafka.ssl.key.password must be"),
    ("secrets", ["config", "clusters", "jp", "librdkafka"], {"ssl.key.pem": "planted"}, "librdkafka.ssl.key.pem must be"),
    ("secrets", ["serviceMonitor", "authorization"], {}, "serviceMonitor.authorization must name the secret"),
    ("secrets", ["keda"], {"enabled": True}, "one of the two"),
    ("msk", ["keda", "kafkaAuthentication"], {}, "keda.kafkaAuthentication.tw"),
    ("msk", ["config", "defaults", "positions_on_source"], False, "needs positions_on_source"),
    ("msk", ["config", "clusters", "tw", "bootstrap_servers"], "${env:TW}", "config.clusters.tw.bootstrap_servers must be written out"),
    ("three", ["keda", "prometheusAddress"], None, "keda.prometheusAddress"),
]


def refuses(all_sets):
    for name, path, value, says in REFUSED:
        code, said = render(changed(all_sets[name], path, value))
        assert code != 0, f"{path} = {value} is not refused"
        assert says in said, f"{path} = {value}: not {says!r} in {said}"
        assert "planted" not in said, said


def restarts(all_sets):
    """Pods are restarted by what they do not take up by themselves, and by nothing else."""

    def digest(values):
        annotations = one(resources(template(values)), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        return annotations["kuroshio/config-that-restarts"]

    base = all_sets["msk"]
    before = digest(base)
    for path, value, restarted in [
        (["defaults", "topics", "include"], ["orders.*"], False),
        (["defaults", "groups"], {"interval": "10s"}, False),
        (["defaults", "configs"], {"sync": False}, False),
        (["defaults", "acls"], {"sync": True}, False),
        (["defaults", "throttle"], {"bytes_per_second": "1MiB"}, False),
        (["flows", 0, "topics"], {"include": ["orders"]}, False),
        (["log"], {"level": "debug"}, False),
        (["log"], {"level": "debug", "format": "text"}, True),
        (["defaults", "delivery"], "at_least_once", True),
        (["flows", 0, "delivery"], "at_least_once", True),
        (["clusters", "jp", "rack"], "apne1-az1", True),
        (["shutdown_grace"], "10s", True),
    ]:
        after = digest(changed(base, ["config", *path], value))
        assert (after != before) == restarted, path
    base = all_sets["smallest"]
    assert len({digest(changed(base, ["region"], region)) for region in ("tw", "jp")} | {digest(base)}) == 3


def golden(all_sets):
    path = HERE / "golden/msk.yaml"
    # The dashboard is compared above, and 2,000 lines.
    right = template(changed(all_sets["msk"], ["dashboard", "enabled"], False))
    if "WRITE" in os.environ:
        path.parent.mkdir(exist_ok=True)
        path.write_text(right)
    written = path.read_text()
    difference = difflib.unified_diff(written.splitlines(), right.splitlines(), "golden/msk.yaml", "rendered", lineterm="")
    assert written == right, "\n".join([*difference, "WRITE=1 helm/tests/chart.sh, and look at the difference"])


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else None
    all_sets = sets()
    for name, values in all_sets.items():
        code, said = helm("lint", "--strict", "--kube-version", KUBERNETES[-1], str(CHART), values=values)
        assert code == 0, f"{name}: {said}"
        found = resources(template(values))
        try:
            validate(found)
            for pod in (one(found, "StatefulSet")["spec"]["template"]["spec"], one(found, "Pod")["spec"]):
                restricted(pod)
            chart_says(found, name)
            if binary:
                accepted(found, binary)
        except Exception as why:
            raise AssertionError(f"{name}: {why}") from why
        print(f"{name}: {len(found)} resources")
    refuses(all_sets)
    print(f"{len(REFUSED)} mistakes are refused")
    restarts(all_sets)
    golden(all_sets)


main()
