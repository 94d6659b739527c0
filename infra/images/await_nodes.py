"""Wait until a Ray cluster has some resources, then become a command.

    python infra/images/await_nodes.py --seconds 1800 GPU=1 decoding=1 -- python jobs/run_pipeline.py ...

A job lays its work out by the nodes that are there when it starts: without a GPU it would encode on CPUs. KubeRay's
sidecar submits as soon as the head answers, before the first worker has joined, so a RayJob starts with this. A
resource is counted over all nodes. Exit code 1 and one sentence where they do not come in time.
"""

import argparse
import os
import sys
import time


def amount(text: str) -> tuple[str, float]:
    """Read NAME=AMOUNT."""
    name, _, value = text.partition("=")
    try:
        found = float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=AMOUNT, as GPU=1") from None
    if not name or found <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} needs a name and an amount above 0, as GPU=1")
    return name, found


def lacking(wanted: dict[str, float], seconds: float) -> dict[str, float]:
    """Wait for resources.

    Args:
        wanted: Amounts by the resource's name, summed over nodes.
        seconds: How long to wait at most.

    Returns:
        What is there of those that have not come in time; nothing where all have.
    """
    import ray

    # A cluster that runs is joined, none is started.
    ray.init(address="auto", log_to_driver=False)
    deadline = time.monotonic() + seconds
    try:
        while True:
            there = ray.cluster_resources()
            short = {name: there.get(name, 0.0) for name, much in wanted.items() if there.get(name, 0.0) < much}
            if not short or time.monotonic() > deadline:
                return short
            time.sleep(1)
    finally:
        ray.shutdown()


def main() -> None:
    """Wait, then run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800, help="how long to wait at most")
    parser.add_argument("resources", nargs="+", type=amount, metavar="NAME=AMOUNT")
    if "--" not in sys.argv:
        parser.error("a command is needed after --")
    end = sys.argv.index("--")
    flags, command = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    if not command:
        parser.error("a command is needed after --")
    wanted = dict(flags.resources)
    short = lacking(wanted, flags.seconds)
    if short:
        missing = ", ".join(f"{name}: {there:g} of {wanted[name]:g}" for name, there in sorted(short.items()))
        sys.exit(
            f"the cluster has not enough after {flags.seconds:g} s ({missing}). See why workers are pending "
            "(kubectl describe pod), or ask for less"
        )
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
