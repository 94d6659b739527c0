"""Joins a Ray that runs, or starts a local one."""

import logging
import os
from typing import Any

import ray

from pipeline import faults
from pipeline.errors import PipelineError
from pipeline.work.joined import joined_cluster
from pipeline.work.local_ray import ready_for_ray, token_file
from pipeline.work.runtime import ALLOCATOR


def connect() -> None:
    """Join the Ray cluster that RAY_ADDRESS names or that runs here, else start a local one; once a process.

    The workers' variables travel in a runtime environment only where a cluster runs already: with one, each worker
    takes a second more to start. A local Ray has them from the environment that it is started in.

    Raises:
        ClusterShapeError: A process may not have as many files open as a local Ray needs.
        PipelineError: The cluster does not answer, or wants another token.
    """
    if ray.is_initialized():
        return
    # Fault points of the driver reach workers of a running cluster too.
    variables = {**ALLOCATOR, **{k: v for k, v in os.environ.items() if k == faults.VARIABLE}}
    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False, "include_dashboard": False}
    joined = joined_cluster()
    if joined is not None and joined.running:
        try:
            ray.init(runtime_env={"env_vars": variables}, **quiet)
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise PipelineError(
                f"this process could not join Ray ({joined.why}): {_first_sentence(error)}. Does the cluster run, and "
                f"does it want a token? Ray tells a missing or wrong token only in lines above. {token_here()}"
            ) from error
        return
    with ready_for_ray(variables):
        ray.init(address="local", **quiet)


def _first_sentence(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].partition(". ")[0].rstrip(".")


def token_here() -> str:
    """Say whether this process uses a token, and where Ray looks for one, in its order."""
    mode = f"This process has RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE', 'unset')}"
    if os.environ.get("RAY_AUTH_TOKEN"):
        return f"{mode} and a token in RAY_AUTH_TOKEN"
    path = token_file()
    return f"{mode} and {'a' if path.is_file() else 'no'} token in {path}"
