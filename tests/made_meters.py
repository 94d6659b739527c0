"""A meter that writes down what it is told."""


class Recorded:
    """Keeps every value of every metric, in order."""

    def __init__(self):
        self.told, self.closed = [], False

    def set(self, metric, value, **tags):
        assert metric.kind == "gauge"
        self._keep(metric, value, tags)

    def add(self, metric, value, **tags):
        assert metric.kind == "counter"
        self._keep(metric, value, tags)

    def close(self):
        self.closed = True

    def _keep(self, metric, value, tags):
        assert not self.closed
        assert set(tags) == {"stage", "output", *metric.tags}
        self.told.append((metric, value, tags))

    def values(self, metric, **tags):
        """Give the values of a metric whose tags are these and any others."""
        return [value for told, value, given in self.told if told == metric and tags.items() <= given.items()]
