"""Everything that may be wrong with a kustomization of infra/kubernetes, as sentences."""

import re

from made_manifests import (
    OURS,
    ROOT,
    cluster_faults,
    cluster_of,
    entrypoint,
    groups,
    job_faults,
    pods,
    render,
    schema_faults,
)

from pipeline import cli
from pipeline.errors import SettingsError
from pipeline.run import run_pipeline

KINDS = {"Namespace", "ServiceAccount", "NetworkPolicy"}
RAY = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)[1]
SIZES = {"small": (1, 2), "large": (2, 32), "spot": (2, 32)}
"""Fewest and most encoders, and as many decoders, of each size."""

TAKEN_BACK = {
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "cloud.google.com/gke-spot": "true",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""How clouds label nodes that they may take back."""


def entrypoint_faults(document):
    """Say what of a run's command does not fit Strata's flags, the image or the cluster."""
    wait, command = entrypoint(document)
    encoders, decoders = (groups(cluster_of(document))[name] for name in ("encoders", "decoders"))
    faults = []
    if wait[:2] != ["python", "infra/images/await_nodes.py"] or command[:2] != ["python", "jobs/run_pipeline.py"]:
        faults.append(f"runs {wait[:2]}, {command[:2]}")
    at_first = dict(word.split("=") for word in wait if "=" in word)
    if at_first != {"GPU": str(encoders["minReplicas"]), "decoding": str(decoders["minReplicas"])}:
        faults.append(f"waits for {at_first}")
    try:
        config = cli.parse(run_pipeline, command[2:], "")
    except (SystemExit, SettingsError):
        return [*faults, "flags are refused"]
    encoding = config.encoding
    if (encoding.num_workers, encoding.max_workers) != (encoders["minReplicas"], encoders["maxReplicas"]):
        faults.append(f"{encoding.num_workers} to {encoding.max_workers} workers")
    if (encoding.gpus_per_worker, encoding.decode_resource, encoding.numerics) != (1, "decoding", "any"):
        faults.append("encoders and decoders are not told apart")
    if not config.recordings.corpus.startswith("s3://") or not config.output.startswith("s3://"):
        faults.append("not from S3 to S3")
    return faults


def network_faults(documents):
    """Say whom the policies let in or out who should not be, and who cannot do their work."""
    policies = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "NetworkPolicy"}
    faults = []
    every, head = policies["strata"], policies["strata-head"]
    if every["podSelector"] != {"matchLabels": OURS} or set(every["policyTypes"]) != {"Ingress", "Egress"}:
        faults.append("the policy is not of all pods, both ways")
    if head["podSelector"] != {"matchLabels": {**OURS, "ray.io/node-type": "head"}}:
        faults.append("the head's policy is not the head's")
    ours = {"podSelector": {"matchLabels": OURS}}
    operator = {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}}
    come_in = [{"from": [ours]}, {"from": [{"namespaceSelector": {}, "podSelector": operator}], "ports": [tcp(8265)]}]
    if every["ingress"] != come_in:
        faults.append("others than Strata and KubeRay's operator come in")
    if {"to": [ours]} not in every["egress"]:
        faults.append("pods cannot talk with each other")
    opened = {(p["port"], p["protocol"]) for rule in every["egress"] if "ports" in rule for p in rule["ports"]}
    if not {(53, "UDP"), (53, "TCP"), (443, "TCP")} <= opened:
        faults.append(f"no DNS or no HTTPS: {sorted(opened)}")
    for rule in every["egress"] + head["egress"]:
        blocks = [peer["ipBlock"] for peer in rule.get("to", ()) if "ipBlock" in peer]
        if not rule.get("to") or any(b["cidr"] == "0.0.0.0/0" and "169.254.0.0/16" not in b["except"] for b in blocks):
            faults.append("metadata services can be reached")
    if not {443, 6443} <= {p["port"] for rule in head["egress"] for p in rule["ports"]}:
        faults.append("the autoscaler cannot reach Kubernetes")
    return faults


def tcp(port):
    return {"port": port, "protocol": "TCP"}


def faults_of(folder, is_run):
    """Say everything that is wrong with a kustomization."""
    try:
        documents = render(folder)
    except ValueError as error:
        return [str(error)]
    faults = schema_faults(documents)
    if faults:
        return faults
    wanted = {"RayJob" if is_run else "RayCluster"}
    if {document["kind"] for document in documents} != KINDS | wanted:
        return [f"kinds: {sorted({document['kind'] for document in documents})}"]
    (document,) = [document for document in documents if document["kind"] in wanted]
    if cluster_of(document) is None or list(groups(cluster_of(document))) != ["head", "encoders", "decoders"]:
        return ["groups are others than head, encoders and decoders"]
    faults = cluster_faults(cluster_of(document), RAY) + network_faults(documents) + size_faults(document, folder.name)
    for name, pod in pods(document).items():
        if pod["metadata"].get("labels") != OURS:
            faults.append(f"{name} is not under the network policy")
    if {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"} != {"strata"}:
        faults.append("not in the namespace strata")
    (namespace,) = of_kind(documents, "Namespace")
    if "pod-security.kubernetes.io/enforce" not in namespace["metadata"]["labels"]:
        faults.append("the namespace enforces nothing")
    accounts = {d["metadata"]["name"]: d["metadata"] for d in of_kind(documents, "ServiceAccount")}
    wanted_accounts = {pod["spec"].get("serviceAccountName") for pod in pods(document).values()}
    faults += [f"{name} is no account" for name in sorted(map(str, wanted_accounts - set(accounts)))]
    if folder.name == "spot":
        faults += spot_faults(document)
    if is_run:
        faults += [f"{name} is nobody in the cloud" for name, of in accounts.items() if not of.get("annotations")]
        faults += job_faults(document) + entrypoint_faults(document) + _image_faults(document)
    return faults


def size_faults(document, size):
    """Say which groups are not of the size that the folder's name promises."""
    found = {name: group for name, group in groups(cluster_of(document)).items() if name != "head"}
    limits = {name: (group["minReplicas"], group["maxReplicas"]) for name, group in found.items()}
    return [f"{name} are {limit}, not {SIZES[size]}" for name, limit in limits.items() if limit != SIZES[size]]


def spot_faults(document):
    """Say which pods are not on the nodes that they are meant for."""
    faults = []
    for name, pod in pods(document).items():
        affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
        # All expressions of a term must hold, and any term is enough.
        found = [[(e["key"], e["operator"], *e["values"]) for e in term["matchExpressions"]] for term in terms]
        if name == "head" and found != [[(key, "NotIn", value) for key, value in TAKEN_BACK.items()]]:
            faults.append("the head may be taken back")
        if name != "head" and found != [[(key, "In", value)] for key, value in TAKEN_BACK.items()]:
            faults.append(f"{name} are not on spot nodes")
        borne = {(one["key"], one["effect"]) for one in pod["spec"].get("tolerations", ())}
        marks = {(key, "NoSchedule") for key in ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")}
        if name != "head" and not marks <= borne:
            faults.append(f"{name} cannot go to spot nodes")
    return faults


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def _image_faults(document):
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods(document).items()}
    tags = {name: image.rpartition(":")[2] for name, image in images.items()}
    right = {"head": "cpu", "encoders": "cuda", "decoders": "cpu"}
    return [] if tags == right else [f"images: {images}"]
