"""What this machine must give a Ray that is started here: open files, a token of its own, settings. Knows no Ray."""

import contextlib
import os
import resource
import secrets
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.errors import ClusterShapeError

_LOCAL = {
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
}
"""Settings of a Ray that is started here (2.60). A process without work stays a minute, not a second, and serves the
next stage, which saves a second of a core each; and nobody counts for a dashboard that is not there. Of 100 utterances
on two cores they save 5 s of 50."""

_FILES = 96
_FILES_PER_CPU = 8
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@contextlib.contextmanager
def ready_for_ray(variables: Mapping[str, str]) -> Iterator[None]:
    """Make this process fit to start a local Ray, and set environment variables while it does.

    Args:
        variables: What the workers get, beside the settings of a local Ray.

    Raises:
        ClusterShapeError: A process may not have as many files open as Ray needs.
    """
    check_open_files(len(os.sched_getaffinity(0)))
    keep_token_private()
    with _environment({**variables, **_LOCAL}):
        yield


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def files_needed(cpus: int) -> int:
    """Give the open files that each process of a local Ray may need.

    Measured with Ray 2.60 on 2 CPUs: its raylet has 71 open, its other servers up to 66, workers 47; with a limit of 64
    it fails after a minute, with one of 96 it works.

    Args:
        cpus: CPUs of this machine that Ray will use.
    """
    return _FILES + _FILES_PER_CPU * cpus


def check_open_files(cpus: int) -> None:
    """Raise this process's limit as far as it may where a local Ray needs more, and refuse what is too low.

    Ray dies of it otherwise, with stacks of several processes and without a word of the limit.

    Args:
        cpus: CPUs of this machine that Ray will use.

    Raises:
        ClusterShapeError: The limit is too low, and this process may not raise it.
    """
    needed = files_needed(cpus)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ClusterShapeError(
            f"a process may have {hard} files open here (ulimit -n), and Ray on {cpus} CPUs needs {needed}: raise the "
            "limit, or do the work in this process with --runner here"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def token_file() -> Path:
    """Give the file in which Ray looks for a token, where RAY_AUTH_TOKEN holds none."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def keep_token_private() -> None:
    """Make the token that a local Ray will use if there is none, and take it from all others.

    Who reads the token of a running Ray can run code in it, and Ray (2.60) makes it as any new file is made: readable
    by everyone with the usual umask.

    Follows Ray's order: RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, ``~/.ray/auth_token``. What another program
    manages, as a mounted secret, stays as it is where this process may not change it.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = token_file()
    if not os.environ.get("RAY_AUTH_TOKEN_PATH") and not path.exists():
        _make(path)
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)


def _make(path: Path) -> None:
    """Write a new token whole and private; of two processes that do so at once, both then use the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes files of mode 0600.
    file, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(file, "w") as token:
            token.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError:
        # A disk without hard links.
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
