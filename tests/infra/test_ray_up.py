"""infra/ray_up: as Ray's own launcher reads them, and what it does not look at."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "ray_up"
FILES = ("aws.yaml", "gcp.yaml")
TARGETS = {"head": "head", "encoders": "cuda", "decoders": "cpu"}
EMPTY = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")


def prepared(text):
    """Read a file as `ray up` does before it asks a cloud anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load(text))
    validate_config(config)
    return config


def is_spot(node):
    market = node.get("InstanceMarketOptions", {}).get("MarketType", "")
    return "spot" in (market, node.get("scheduling", {}).get("provisioningModel", "").lower())


def command_faults(config):
    """Say which commands install what nobody pinned, or open what should be closed."""
    faults = [f"{name}: {config[name]}" for name in EMPTY if config[name]]
    start = config["head_start_ray_commands"][-1]
    if "--dashboard-host=127.0.0.1" not in start:
        faults.append("the dashboard is open")
    if "--autoscaling-config=~/ray_bootstrap_config.yaml" not in start:
        faults.append("nothing scales")
    if "--address=$RAY_HEAD_IP:6379" not in config["worker_start_ray_commands"][-1] or "--port=6379" not in start:
        faults.append("workers do not find the head")
    return faults


def container_faults(config):
    """Say what a container may do that it need not, and where it lacks the token."""
    docker, faults = config["docker"], []
    options, mounts = docker["run_options"], config["file_mounts"]
    if not {"--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=$(id -u):$(id -g)"} <= set(options):
        faults.append(f"containers may too much: {options}")
    variables = dict(option.removeprefix("--env=").split("=") for option in options if option.startswith("--env="))
    if variables.get("RAY_AUTH_MODE") != "token" or mounts.get(variables.get("RAY_AUTH_TOKEN_PATH")) is None:
        faults.append("no token")
    files = [path for name, path in variables.items() if name.endswith(("_PATH", "_FILE"))]
    if sorted(files) != sorted(mounts) or not all(path.startswith("/scratch/") for path in mounts):
        faults.append(f"mounted are {sorted(mounts)}, meant {files}")
    if re.search(r"AKIA|aws_secret|token=(?!$)", str(docker).replace("RAY_AUTH_MODE=token", "")):
        faults.append("a secret in the file")
    return faults


def node_faults(config):
    """Say which nodes are not what Strata's flags expect."""
    types = config["available_node_types"]
    if set(types) != set(TARGETS) or config["head_node_type"] != "head":
        return [f"nodes are {sorted(types)}"]
    wanted = {"head": {"CPU": 0}, "encoders": {"CPU": 8, "GPU": 1}, "decoders": {"CPU": 16, "decoding": 1}}
    faults = [f"{name} has {types[name]['resources']}" for name in wanted if types[name]["resources"] != wanted[name]]
    for name, kind in types.items():
        if is_spot(kind["node_config"]) != (name != "head"):
            faults.append(f"{name}: on spot or not")
        least, most = kind["min_workers"], kind["max_workers"]
        if (least, most) != (0, 0) and not (name != "head" and 1 <= least <= most):
            faults.append(f"{name}: {least} to {most}")
        image = kind.get("docker", {}).get(
            "worker_image", config["docker"][f"{'head' if name == 'head' else 'worker'}_image"]
        )
        if image.rpartition(":")[2] != TARGETS[name]:
            faults.append(f"{name}: image {image}")
    if sum(kind["max_workers"] for kind in types.values()) > config["max_workers"]:
        faults.append("max_workers is below what the kinds of nodes may have")
    return faults


def cloud_faults(config):
    """Say what of the clouds' own settings is missing."""
    faults = []
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        if config["provider"]["type"] == "aws":
            profile = node.get("IamInstanceProfile", {}).get("Arn", "")
            if not re.fullmatch(r"arn:aws:iam::\d{12}:instance-profile/strata-(head|nodes)", profile):
                faults.append(f"{name} has no identity")
            if node.get("MetadataOptions") != {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}:
                faults.append(f"{name}: metadata")
            if not all(disk["Ebs"].get("Encrypted") for disk in node["BlockDeviceMappings"]):
                faults.append(f"{name}: disk")
        elif not all(disk["boot"] and "sourceImage" in disk["initializeParams"] for disk in node["disks"]):
            faults.append(f"{name}: disk")
    return faults


def faults_of(text):
    try:
        config = prepared(text)
    except Exception as error:
        return [f"Ray refuses it: {type(error).__name__}: {str(error)[:300]}"]
    return command_faults(config) + container_faults(config) + node_faults(config) + cloud_faults(config)


@pytest.mark.parametrize("file", FILES)
def test_ray_reads_the_file_and_nodes_are_as_meant(file):
    assert faults_of((FOLDER / file).read_text()) == []


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("pattern", "put", "fault"),
    [
        ("max_workers: 16", "max_worker: 16", "Ray refuses it: ValidationError"),
        ("max_workers: 16", "max_workers: many", "Ray refuses it"),
        ("max_workers: 16", "max_workers: 1", "Ray refuses it: ValueError"),
        ("max_workers: 16", "max_workers: 15", "max_workers is below"),
        ("head_node_type: head", "head_node_type: heads", "Ray refuses it"),
        ("resources: {CPU: 0}", "resource: {CPU: 0}", "Ray refuses it"),
        ("decoding: 1}", "decoding: 0.5}", "Ray refuses it"),
        ("decoding: 1}", "decode: 1}", "decoders has"),
        ("GPU: 1}", "GPU: 2}", "encoders has"),
        (r"\nsetup_commands: \[\]", "", "setup_commands: .*pip install"),
        (r"\nhead_setup_commands: \[\]", "", "head_setup_commands: .*pip install"),
        ("127.0.0.1", "0.0.0.0", "dashboard is open"),
        ("    --autoscaling-config=~/ray_bootstrap_config.yaml\n", "", "nothing scales"),
        ("RAY_HEAD_IP:6379", "RAY_HEAD_IP:6380", "do not find the head"),
        ("    - --cap-drop=ALL\n", "", "may too much"),
        ("AUTH_MODE=token", "AUTH_MODE=none", "no token"),
        ("  /scratch/auth_token: .*\n", "", "no token|Ray refuses"),
        ("strata:cuda", "strata:cpu", "encoders: image"),
        (r"&spot\n(\s+)(MarketType: spot|provisioningModel: SPOT)", r"&spot\n\1x: y", "on spot or not"),
        ("min_workers: 1\n", "min_workers: 0\n", "0 to 8"),
        ("boot: true|Encrypted: true", "boot: false", "disk"),
    ],
)
def test_a_file_that_is_made_wrong_is_noticed(file, pattern, put, fault):
    text = (FOLDER / file).read_text()
    wrong = re.sub(pattern, put, text)
    assert wrong != text
    found = faults_of(wrong)
    assert re.search(fault, "\n".join(found), flags=re.DOTALL), found


@pytest.mark.parametrize(
    ("pattern", "put", "fault"),
    [
        ("HttpTokens: required", "HttpTokens: optional", "metadata"),
        ("IamInstanceProfile", "InstanceProfile", "no identity"),
    ],
)
def test_a_node_of_ec2_without_its_role_is_noticed(pattern, put, fault):
    text = (FOLDER / "aws.yaml").read_text()
    assert fault in "\n".join(faults_of(text.replace(pattern, put)))


def test_commands_that_are_not_given_are_a_nightly_ray():
    """What the empty lists are for: Ray fills in its own commands where a file has none."""
    assert "ray-wheels/latest" in str(prepared("cluster_name: x\nprovider: {type: aws, region: r}")["setup_commands"])
