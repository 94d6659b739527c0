"""A store in memory, which dies on schedule."""

from functools import partial

import pyarrow as pa


class Killed(BaseException):
    """A process that dies: no handler may survive it, so it is no Exception."""


class MemoryStore:
    """Named bytes in a dict, shared by all processes of a test, dying at scheduled operations.

    At operation n of the schedule, a process is killed before or after the operation took effect.
    """

    def __init__(self, files=None, deaths=()):
        self.uri = "memory"
        self.files = {} if files is None else files
        self.deaths = list(deaths)
        self.operations = 0

    def _operate(self, act):
        death = next((when for number, when in self.deaths if number == self.operations), None)
        self.operations += 1
        if death == "before":
            raise Killed
        result = act()
        if death == "after":
            raise Killed
        return result

    def read(self, name):
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name]

    def read_many(self, names):
        return [self.read(name) for name in names]

    def write(self, name, data):
        self._operate(lambda: self.files.__setitem__(name, bytes(data)))

    def create(self, name, data):
        def act():
            if name in self.files:
                return False
            self.files[name] = bytes(data)
            return True

        return self._operate(act)

    def copy(self, source, target):
        def act():
            self.files[target] = self.read(source)

        self._operate(act)

    def delete(self, names):
        for name in list(names):
            self._operate(partial(self.files.pop, name, None))

    def delete_tree(self, folder):
        self.delete(self.tree(folder))

    def names(self, folder=""):
        start = f"{folder}/" if folder else ""
        return sorted(n[len(start) :] for n in self.files if n.startswith(start) and "/" not in n[len(start) :])

    def tree(self, folder):
        return sorted(name for name in self.files if name.startswith(f"{folder}/"))

    def exists(self, name):
        return name in self.files

    def open(self, name):
        return pa.BufferReader(self.read(name))

    open_whole = open
