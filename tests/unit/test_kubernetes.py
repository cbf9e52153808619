# SPDX-License-Identifier: Apache-2.0
"""The manifests and the container: of a form that Kubernetes takes, and telling the same story as the code."""

# ruff: noqa: N815 - the names are Kubernetes's

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field

from refloat_coordinator.config import CoordinatorSettings
from refloat_coordinator.vitals import Vitals
from refloat_service import settings

TOP = Path(__file__).parents[2]
FOLDER = TOP / "packaging" / "kubernetes"
CONTAINERFILE = TOP / "packaging" / "container" / "Containerfile"
FROM_ELSEWHERE = {"slurm-conf"}
"""What slurmctld's own deployment has made (docs/kubernetes.md)."""

Labels = dict[str, str]


class Strict(BaseModel):
    """A part of a manifest: a misspelled key is an error, as it is for `kubectl apply --validate=strict`."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    labels: Labels = {}


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: Literal[False]
    readOnlyRootFilesystem: Literal[True]
    capabilities: dict[Literal["drop", "add"], list[str]]


class HttpGet(Strict):
    path: str
    port: str


class Exec(Strict):
    command: list[str]


class Probe(Strict):
    httpGet: HttpGet | None = None
    exec: Exec | None = None
    periodSeconds: int
    timeoutSeconds: int = 1
    failureThreshold: int = 3


class Mount(Strict):
    name: str
    mountPath: str
    subPath: str = ""
    readOnly: bool = False


class Port(Strict):
    name: str
    containerPort: int


class Container(Strict):
    name: str
    image: str
    command: list[str] = []
    args: list[str]
    ports: list[Port] = []
    restartPolicy: Literal["Always"] | None = None
    startupProbe: Probe
    livenessProbe: Probe | None = None
    readinessProbe: Probe | None = None
    resources: dict[Literal["requests", "limits"], dict[Literal["cpu", "memory"], str]]
    securityContext: ContainerSecurity
    volumeMounts: list[Mount]


class Volume(Strict):
    name: str
    configMap: dict[Literal["name"], str] | None = None
    secret: dict[Literal["secretName", "defaultMode"], str | int] | None = None
    persistentVolumeClaim: dict[Literal["claimName"], str] | None = None
    emptyDir: dict[Literal["medium", "sizeLimit"], str] | None = None

    def source(self) -> str:
        """The object that it is made from; empty: none."""
        named = (self.configMap or {}).get("name") or (self.persistentVolumeClaim or {}).get("claimName")
        return str(named or (self.secret or {}).get("secretName") or "")


class PodSecurity(Strict):
    runAsUser: int = Field(gt=0)
    runAsGroup: int
    fsGroup: int
    runAsNonRoot: Literal[True]
    seccompProfile: dict[Literal["type"], Literal["RuntimeDefault"]]


class Pod(Strict):
    automountServiceAccountToken: Literal[False]
    enableServiceLinks: bool
    terminationGracePeriodSeconds: int
    securityContext: PodSecurity
    affinity: dict[str, Any]
    initContainers: list[Container]
    containers: list[Container]
    volumes: list[Volume]


class Template(Strict):
    metadata: dict[Literal["labels"], Labels]
    spec: Pod


class DeploymentSpec(Strict):
    replicas: Literal[1]
    strategy: dict[Literal["type"], Literal["Recreate"]]
    selector: dict[Literal["matchLabels"], Labels]
    template: Template


class Deployment(Strict):
    apiVersion: Literal["apps/v1"]
    kind: Literal["Deployment"]
    metadata: Metadata
    spec: DeploymentSpec


def documents() -> list[dict[str, Any]]:
    """Every object of the manifests that the kustomization names."""
    wanted = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [each for name in wanted for each in yaml.safe_load_all((FOLDER / name).read_text())]


def one(kind: str) -> dict[str, Any]:
    """The object of this kind."""
    (found,) = (each for each in documents() if each["kind"] == kind)
    return found


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment.model_validate(one("Deployment"))


@pytest.fixture(scope="module")
def wanted() -> CoordinatorSettings:
    return settings.load(CoordinatorSettings, FOLDER / "coordinator.toml", env_prefix="X", env={})


def test_there_is_one_coordinator_and_never_two_on_one_ledger(deployment: Deployment) -> None:
    assert deployment.spec.replicas == 1
    assert one("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_every_mount_has_its_volume_and_every_volume_a_use(deployment: Deployment) -> None:
    pod = deployment.spec.template.spec
    mounted = {mount.name for each in (*pod.containers, *pod.initContainers) for mount in each.volumeMounts}

    assert mounted == {volume.name for volume in pod.volumes}


def test_every_volume_is_made_from_what_there_is(deployment: Deployment) -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    made = {each["metadata"]["name"] for each in documents()}
    made |= {each["name"] for each in kustomization["configMapGenerator"]}

    sources = {volume.source() for volume in deployment.spec.template.spec.volumes} - {""}
    assert sources <= made | FROM_ELSEWHERE
    assert all((FOLDER / name).exists() for each in kustomization["configMapGenerator"] for name in each["files"])


def test_the_probes_ask_for_pages_that_there_are_at_the_port_of_the_configuration(
    deployment: Deployment, wanted: CoordinatorSettings
) -> None:
    (coordinator,) = deployment.spec.template.spec.containers
    probes = (coordinator.startupProbe, coordinator.livenessProbe, coordinator.readinessProbe)
    asked = [probe.httpGet for probe in probes if probe is not None and probe.httpGet is not None]
    pages = set(Vitals.pages(Vitals(None, 1.0)))  # type: ignore[arg-type]  # a clock is not needed to name them

    assert [get.path for get in asked] == ["/healthz", "/healthz", "/readyz"]
    assert {get.path for get in asked} <= pages
    assert {get.port for get in asked} == {coordinator.ports[0].name}
    assert wanted.http.address() == (None, coordinator.ports[0].containerPort)
    assert one("Service")["spec"]["ports"][0]["port"] == coordinator.ports[0].containerPort


def test_the_configuration_finds_its_files_where_the_pod_has_them(
    deployment: Deployment, wanted: CoordinatorSettings
) -> None:
    (coordinator,) = deployment.spec.template.spec.containers
    places = {mount.mountPath for mount in coordinator.volumeMounts}
    files = [wanted.mqtt.ca_file, wanted.mqtt.cert_file, wanted.mqtt.key_file]
    (secret,) = (each for each in documents() if each["metadata"]["name"] == "refloat-coordinator-tls")

    assert coordinator.args == ["--config", "/etc/refloat/coordinator.toml"]
    assert {"/etc/refloat/coordinator.toml", str(wanted.state_dir), str(wanted.socket.parent)} <= places
    assert {str(file.parent) for file in files if file is not None} == {"/etc/refloat/tls"}
    assert {file.name for file in files if file is not None} == set(secret["stringData"])
    assert wanted.mqtt.tls


def test_the_broker_knows_the_coordinator_by_the_same_name_in_every_pod(wanted: CoordinatorSettings) -> None:
    assert "client_id" in wanted.model_fields_set


def test_nothing_in_the_pod_is_root_or_can_become_it(deployment: Deployment) -> None:
    pod = deployment.spec.template.spec

    assert pod.securityContext.runAsUser == pod.securityContext.fsGroup == 64030
    for each in (*pod.containers, *pod.initContainers):
        assert each.securityContext.capabilities == {"drop": ["ALL"]}


def test_secrets_are_readable_by_the_pods_user_only(deployment: Deployment) -> None:
    secrets = [volume.secret for volume in deployment.spec.template.spec.volumes if volume.secret is not None]

    assert {secret["defaultMode"] for secret in secrets} == {0o400}


def test_labels_find_what_they_select(deployment: Deployment) -> None:
    labels = deployment.spec.template.metadata["labels"]

    assert deployment.spec.selector["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels


def test_the_network_lets_through_what_the_configuration_needs_and_the_rest_not(wanted: CoordinatorSettings) -> None:
    spec = one("NetworkPolicy")["spec"]
    ports = {port["port"] for rule in spec["egress"] for port in rule["ports"]}

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert {wanted.mqtt.port, 6817, 53} <= ports
    assert all(rule["to"] and rule["ports"] for rule in spec["egress"])
    assert all(rule["from"] and rule["ports"] for rule in spec["ingress"])


def test_the_container_copies_what_there_is_and_runs_as_the_pod_does(deployment: Deployment) -> None:
    text = CONTAINERFILE.read_text()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    user = deployment.spec.template.spec.securityContext.runAsUser

    assert copied
    assert all((TOP / name).exists() for name in copied)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == [f"{user}:{user}"]


def test_kustomize_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("there is no kubectl here")

    ended = subprocess.run([kubectl, "kustomize", FOLDER], capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    assert "registry.example.org/refloat-coordinator" in ended.stdout
