"""A store in memory, which dies on schedule."""

import threading
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


class InLockStep:
    """Two drivers as threads that share files: a schedule says who runs its next store operation."""

    def __init__(self, files, turns):
        self._files, self._turns = files, list(turns)
        self._changed = threading.Condition()
        self._turn, self._alive = self._turns.pop(0), {0, 1}

    def run(self, drive):
        """Call ``drive(who, store)`` for both drivers at once; give the errors that ended them."""
        errors = []

        def one(who):
            try:
                drive(who, _SteppedStore(self._files, self, who))
            except Exception as error:
                errors.append(error)
            finally:
                with self._changed:
                    self._alive.discard(who)
                    self._changed.notify_all()

        threads = [threading.Thread(target=one, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    def operate(self, who, act):
        """Run an operation of a driver when it has its turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn == who or len(self._alive) == 1, timeout=10)
            result = act()
            self._turn = self._turns.pop(0) if self._turns else 1 - who
            self._changed.notify_all()
            return result


class _SteppedStore(MemoryStore):
    def __init__(self, files, steps, who):
        super().__init__(files)
        self._steps, self._who = steps, who

    def _operate(self, act):
        return self._steps.operate(self._who, act)
