"""docs/kubernetes.yaml, checked against Kubernetes' own schema; no cluster is needed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml
from kubernetes_validate import ValidationError, validate

import config
from tests import PROJECT

VERSION = "1.37"
OBJECTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((PROJECT / "docs" / "kubernetes.yaml").read_text(encoding="utf-8"))
)
NAMED = {(item["kind"], item["metadata"]["name"]): item for item in OBJECTS}
PODS = {
    name: item["spec"]["template"]["spec"]
    for (kind, name), item in NAMED.items()
    if kind == "Deployment"
}


@pytest.mark.parametrize("name", NAMED, ids="/".join)
def test_an_object_has_the_fields_of_its_kind_and_no_others(name: tuple[str, str]) -> None:
    validate(NAMED[name], VERSION, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    producer = NAMED["Deployment", "velib-producer"]
    misspelt = producer | {"spec": producer["spec"] | {"replica": 2}}
    with pytest.raises(ValidationError, match="replica"):
        validate(misspelt, VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_the_settings_of_a_pod_are_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = PODS[name]["containers"]
    sources = [kind for source in container["envFrom"] for kind in source.items()]
    kinds = {"configMapRef": ("ConfigMap", "data"), "secretRef": ("Secret", "stringData")}
    settings: dict[str, str] = {}
    for reference, source in sources:
        kind, field = kinds[reference]
        settings |= NAMED[kind, source["name"]][field]
    ca = Path(settings["KAFKA_SSL_CAFILE"])
    (mounted,) = [v["name"] for v in container["volumeMounts"] if v["mountPath"] == str(ca.parent)]
    (volume,) = [v for v in PODS[name]["volumes"] if v["name"] == mounted]
    assert ca.name in NAMED["ConfigMap", volume["configMap"]["name"]]["data"]

    assert settings.keys() <= config.variables().keys()
    for variable, value in (settings | {"KAFKA_SSL_CAFILE": certifi.where()}).items():
        monkeypatch.setenv(variable, value)
    assert config.load().kafka.security_protocol == "SASL_SSL"


@pytest.mark.parametrize("name", PODS)
def test_the_command_of_a_pod_is_a_script_with_options_that_it_has(name: str) -> None:
    (container,) = PODS[name]["containers"]
    python, script, *options = container["command"]
    assert python == "python"
    path = PROJECT / Path(script).relative_to("/opt/velib-projet")
    command = [sys.executable, str(path), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(f"  {option} " in shown for option in options)


def test_the_checkpoint_is_on_the_volume_that_is_claimed() -> None:
    (container,) = PODS["velib-spark"]["containers"]
    folder = Path(NAMED["ConfigMap", "velib-settings"]["data"]["VELIB_CHECKPOINT_DIR"])
    mounts = {Path(mount["mountPath"]): mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS["velib-spark"]["volumes"]}
    claim = volumes[mounts[folder.parent]]["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in NAMED


def test_a_checkpoint_has_one_job_and_there_are_two_producers() -> None:
    counts = {name: NAMED["Deployment", name]["spec"]["replicas"] for name in PODS}
    assert counts == {"velib-producer": 2, "velib-spark": 1}
    assert NAMED["Deployment", "velib-spark"]["spec"]["strategy"] == {"type": "Recreate"}
