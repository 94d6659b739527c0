"""What the decode child may allocate: a limit beyond its libraries, which grows by those that are loaded later."""

import contextlib
import resource
from collections.abc import Iterator


def contain(memory_bytes: int) -> None:
    """Bound what this process may allocate from now on, beyond the 150 MB that its libraries have mapped.

    Args:
        memory_bytes: The bound, bytes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + memory_bytes, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Load a library: what it maps is added to the bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        yield
        return
    before = _mapped()
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft + max(0, _mapped() - before), hard))


def _mapped() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
