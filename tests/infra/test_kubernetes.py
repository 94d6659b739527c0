"""infra/kubernetes: every kustomization rendered and held against schemas, KubeRay, Ray and Strata's own flags.

Each file is made wrong in several ways, and each is noticed.
"""

import re
import shutil
from pathlib import Path

import pytest
from made_kubernetes import SIZES, faults_of, of_kind
from made_manifests import KUBERNETES, pods, render, schema_faults

AWS, LAST = "  - ../../components/aws-identity\n", "  # - ../../components/kueue\n"


@pytest.fixture
def tree(tmp_path):
    return Path(shutil.copytree(KUBERNETES, tmp_path / "kubernetes"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["overlays", "runs"])
def test_a_kustomization_is_what_kubernetes_kuberay_and_ray_expect(kind, size):
    assert faults_of(KUBERNETES / kind / size, kind == "runs") == []


def replace(tree, file, old, new, count=-1):
    text = (tree / file).read_text()
    assert old in text, f"{old!r} is not in {file}"
    (tree / file).write_text(text.replace(old, new, count))


def edited(tree, size="small", **changes):
    """Change the list of components of a run: aws is what stands for the identity, last what comes after the run."""
    replace(tree, f"runs/{size}/kustomization.yaml", AWS, changes.get("aws", AWS))
    replace(tree, f"runs/{size}/kustomization.yaml", LAST, changes.get("last", LAST))
    return render(tree / "runs" / size)


def test_identities_are_annotated_and_no_key_is_stored(tree):
    accounts = of_kind(edited(tree), "ServiceAccount")
    assert len(accounts) == 2
    for account in accounts:
        role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
        assert re.fullmatch(r"arn:aws:iam::\d{12}:role/\S+", role)
    assert re.search(r"(?i)AKIA|secret_access|session_token", str(render(KUBERNETES / "runs" / "small"))) is None


def test_on_gke_pods_show_aws_a_token_of_their_cluster(tree):
    documents = edited(tree, aws=AWS.replace("aws", "gke"))
    assert faults_of(tree / "runs" / "small", True) == []
    for account in of_kind(documents, "ServiceAccount"):
        assert account["metadata"]["annotations"]["iam.gke.io/gcp-service-account"].endswith(".iam.gserviceaccount.com")
    (job,) = of_kind(documents, "RayJob")
    assert len(pods(job)) == 3
    for pod in pods(job).values():
        (container,) = pod["spec"]["containers"]
        values = {variable["name"]: variable["value"] for variable in container["env"]}
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "aws-token"]
        assert values["AWS_WEB_IDENTITY_TOKEN_FILE"] == f"{mount['mountPath']}/token"
        (volume,) = [volume["projected"] for volume in pod["spec"]["volumes"] if volume["name"] == "aws-token"]
        assert volume["sources"][0]["serviceAccountToken"]["audience"] == "sts.amazonaws.com"


def kueue_faults(job):
    """Say what of a RayJob Kueue's webhook would refuse: from its source, since its schema says nothing of it."""
    spec, faults = job["spec"], []
    if not spec.get("shutdownAfterJobFinishes"):
        faults.append("a queued run must take its cluster away at once")
    if spec["rayClusterSpec"].get("enableInTreeAutoscaling"):
        faults.append("the number of pods of a queued run must stay")
    if "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]:
        faults.append("no queue")
    return faults


def test_a_queued_run_is_one_that_kueue_takes(tree):
    (job,) = of_kind(edited(tree, last=LAST.replace("# ", "")), "RayJob")
    assert faults_of(tree / "runs" / "small", True) == []
    assert kueue_faults(job) == []
    assert job["spec"]["suspend"] is True
    (unqueued,) = of_kind(render(KUBERNETES / "runs" / "small"), "RayJob")
    assert len(kueue_faults(unqueued)) == 3


def test_a_kind_without_a_schema_is_a_fault():
    unknown = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "LocalQueue", "metadata": {"name": "x"}}
    assert schema_faults([unknown]) == ["LocalQueue kueue.x-k8s.io/v1beta1: no schema"]


CLUSTER, JOB, RUN = "base/cluster.yaml", "components/run/job.yaml", "runs/{}/kustomization.yaml"
FAULTS = [
    ("base/kustomization.yaml", "  - network.yaml\n", "", "kinds"),
    ("base/kustomization.yaml", "namespace: strata", "namespace: other", "namespace"),
    ("base/namespace.yaml", "enforce: baseline", "mode: baseline", "enforces nothing"),
    ("base/namespace.yaml", "  labels:", "  label:", "'label' was unexpected"),
    ("base/identities.yaml", "automountServiceAccountToken", "automountToken", "automountToken"),
    ("base/identities.yaml", "name: strata-head", "name: head", "strata-head is no account"),
    ("base/network.yaml", "        - {protocol: UDP, port: 53}\n", "", "no DNS"),
    ("base/network.yaml", "port: 443}", "port: 80}", "no DNS or no HTTPS"),
    ("base/network.yaml", "namespaceSelector: {}", "namespaceSelector: {matchLabels: {a: b}}", "others than"),
    ("base/network.yaml", "169.254.0.0/16, 172", "172", "metadata services"),
    ("base/network.yaml", "        - {protocol: TCP, port: 6443}\n", "", "cannot reach Kubernetes"),
    ("base/network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Both]", "not of all pods"),
    (CLUSTER, "rayVersion: 2.60.0", "rayVersion: 2.59.0", "rayVersion"),
    (CLUSTER, "mode: token", "mode: disabled", "no token"),
    (CLUSTER, "mode: token", "mode: tokens", "'tokens' is not one of"),
    (CLUSTER, "    version: v2", "    version: v1", "not v2"),
    (CLUSTER, "    version: v2", "    versions: v2", "'versions' was unexpected"),
    (CLUSTER, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "may get privileges"),
    (CLUSTER, "drop: [ALL]", "drop: [NET_RAW]", "keeps capabilities"),
    (CLUSTER, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write everywhere"),
    (CLUSTER, "runAsUser: 10001", "runAsUser: 1000", "does not run as"),
    (CLUSTER, "            type: RuntimeDefault", "            type: Unconfined", "no seccomp"),
    (CLUSTER, 'num-cpus: "0"', 'num-cpus: "1"', "tasks may run on the head"),
    (CLUSTER, "serviceAccountName: strata-worker", "serviceAccountName: strata-head", "is strata-head"),
    (CLUSTER, "          automountServiceAccountToken: false\n", "", "gets a token"),
    (CLUSTER, "terminationGracePeriodSeconds: 150", "terminationGracePeriodSeconds: 60", "killed before"),
    (CLUSTER, "ray drain-node --reason", "ray drain --reason", "not drained"),
    (CLUSTER, "sizeLimit: 8Gi", "sizeLimit: 4Gi", "/dev/shm"),
    (CLUSTER, "{medium: Memory,", "{media: Memory,", "'media' was unexpected"),
    (CLUSTER, 'limits: {cpu: "4", memory: 8Gi', 'limits: {cpu: "4", memory: 16Gi', "asks for"),
    (CLUSTER, "groupName: encoders", "groupName: gpus", "groups are"),
    (
        CLUSTER,
        "          app.kubernetes.io/part-of: strata\n      spec",
        "          a: b\n      spec",
        "network policy",
    ),
    (CLUSTER, '\'"{\\"decoding\\": 1}"\'', "'{\"decoding\": 1}'", "Ray cannot read"),
    (CLUSTER, '\'"{\\"decoding\\": 1}"\'', '\'"{\\"decode\\": 1}"\'', "decoders are started with"),
    (CLUSTER, 'nvidia.com/gpu: "1"', 'nvidia.com/gpu: "0"', "GPUs are not the encoders'"),
    (CLUSTER, "lifecycle: &drain", "lifecycles: &drain", "'lifecycles' was unexpected"),
    (CLUSTER, "name: tmp, mountPath: /tmp", "name: tmp, mountPath: /temp", "no /tmp"),
    (JOB, "submissionMode: SidecarMode", "submissionMode: HTTPMode", "not submitted by a sidecar"),
    (JOB, "submissionMode: SidecarMode", "submissionMode: Sidecar", "not submitted by a sidecar"),
    (JOB, "backoffLimit: 2", "backoffLimit: 0", "not tried again"),
    (JOB, "backoffLimit: 2", "backoffLimits: 2", "'backoffLimits' was unexpected"),
    (JOB, "  backoffLimit: 2", "  shutdownAfterJobFinishes: true\n  backoffLimit: 2", "exactly one"),
    (JOB, "backoffLimit: 2", "backoffLimit: 2\n  ttlSecondsAfterFinished: 5", "ttlSecondsAfterFinished needs"),
    (JOB, "ttlSeconds: 86400", "ttlSeconds: 60", "the job goes before its cluster"),
    (
        JOB,
        "policy: DeleteCluster\n        condition: {jobStatus: FAILED",
        "policy: DeleteSelf\n        condition: {jobStatus: FAILED",
        "the cluster stays after FAILED",
    ),
    (JOB, "policy: DeleteSelf", "policy: DeleteWorkers", "excludes the autoscaler"),
    (JOB, "  name: strata", "  name: strataxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "groups are others"),
    ("components/run/kustomization.yaml", "[spec.rayClusterSpec]", "[spec.rayCluster]", "'rayCluster' was unexpected"),
    ("components/run/kustomization.yaml", 'local-config: "true"', 'local: "true"', "kinds"),
    ("components/aws-identity/kustomization.yaml", "kind: ServiceAccount", "kind: Account", "nobody in the cloud"),
    (
        "overlays/small/kustomization.yaml",
        "workerGroupSpecs/0/minReplicas, value: 1",
        "workerGroupSpecs/0/minReplicas, value: 3",
        "replicas",
    ),
    (
        "overlays/small/kustomization.yaml",
        "workerGroupSpecs/1/maxReplicas",
        "workerGroupSpecs/9/maxReplicas",
        "kustomize",
    ),
    ("overlays/large/kustomization.yaml", "sizeLimit, value: 16Gi", "sizeLimit, value: 64Gi", "/dev/shm"),
    ("overlays/large/kustomization.yaml", 'limits: {cpu: "16"', 'limits: {cpu: "15"', "asks for"),
    ("overlays/spot/kustomization.yaml", "- path: workers-spot.yaml", "- path: workers.yaml", "kustomize"),
    ("overlays/spot/head-on-demand.yaml", "NotIn", "OutOf", "head may be taken back"),
    ("overlays/spot/head-on-demand.yaml", "operator: NotIn", "operator: In", "head may be taken back"),
    ("overlays/spot/workers-spot.yaml", "values: [SPOT]", "value: [SPOT]", "'value' was unexpected"),
    (
        "overlays/spot/workers-spot.yaml",
        "operator: In, values: [spot]",
        "operator: NotIn, values: [spot]",
        "not on spot",
    ),
    (
        "overlays/spot/workers-spot.yaml",
        "value: spot, effect: NoSchedule",
        "value: spot, effect: None",
        "cannot go to spot",
    ),
    (RUN, "--layout librispeech", "--layouts librispeech", "flags are refused"),
    (RUN, "--preset ", "--preset no_", "flags are refused"),
    (RUN, "decoding=", "decoding=1", "waits for"),
    (RUN, "--decode-resource decoding", "--decode-resource decode", "not told apart"),
    (RUN, "--max-workers ", "--max-workers 9", "workers"),
    (RUN, "--output s3://", "--output /", "not from S3"),
    (RUN, "python infra/images/await_nodes.py", "python infra/await_nodes.py", "runs"),
    (RUN, "newTag: cuda", "newTag: cpu", "images"),
    (RUN, "  - ../../components/run\n", "", "kinds|kustomize"),
]


@pytest.mark.parametrize(("file", "old", "new", "fault"), FAULTS)
def test_a_file_that_is_made_wrong_is_noticed(tree, file, old, new, fault):
    size = file.split("/")[1] if file.startswith("overlays/") else "small"
    replace(tree, file.format(size), old, new)
    found = faults_of(tree / "runs" / size, True)
    assert re.search(fault, "\n".join(found)), found


@pytest.mark.parametrize("size", SIZES)
def test_each_run_that_is_made_wrong_is_noticed(tree, size):
    replace(tree, RUN.format(size), "GPU=", "GPU=1")
    replace(tree, f"overlays/{size}/kustomization.yaml", "kind: RayCluster", "kind: RayService")
    assert faults_of(tree / "runs" / size, True) != []
    assert faults_of(tree / "overlays" / size, False) != []


def test_every_file_is_made_wrong():
    files = {str(path.relative_to(KUBERNETES)) for path in KUBERNETES.rglob("*.yaml")}
    made = {file for file, *_ in FAULTS} - {RUN} | {RUN.format(size) for size in SIZES}
    # Those two have tests of their own, above: the table is of runs as they are.
    assert files - made == {f"components/{name}.yaml" for name in
                            ("gke-identity/kustomization", "gke-identity/token", "kueue/kustomization")}  # fmt: skip
