"""Exports made in this process, without Ray: what a worker does is a plain function of (dataset, unit)."""

from collections import Counter

from pipeline.export import stage
from pipeline.export.formats.registry import READERS
from pipeline.export.settings import ExportTokensConfig
from pipeline.store.completion import finish, status
from pipeline.work.reporting import Tally
from pipeline.work.units import make_unit


class _Remote:
    """A remote function that runs here."""

    def __init__(self, function):
        self.remote = function


def without_ray(monkeypatch):
    """Make the units of an export here, one after the other; gives a counter of units made, by kind of dataset."""
    made = Counter()

    def run_stage(dataset, *, load, factory, shape, numerics_mode, max_reject_fraction):
        tally = Tally(status(dataset))
        maker = factory()
        dataset.claim_numerics(maker.numerics(), numerics_mode)
        for unit in dataset.pending():
            made[dataset.plan.kind] += 1
            make_unit(dataset, unit, [], maker.make, factory=factory, numerics=maker.numerics())
        digest = finish(dataset)
        return tally.report(status(dataset), workers="none", dataset_sha256=digest)

    monkeypatch.setattr(stage, "run_stage", run_stage)
    monkeypatch.setattr(stage.ray, "remote", lambda **resources: _Remote)
    monkeypatch.setattr(stage.ray, "get", lambda found: found)
    monkeypatch.setattr(stage, "cluster_shape", lambda placement, use_gpu: None)
    return made


def config_of(folder, output, **settings):
    """Settings that export the corpus below a folder."""
    return ExportTokensConfig(
        **{"tokens": str(folder / "tokens"), "manifest": str(folder / "manifest"), "output": str(output)} | settings
    )


def documents_of(output, form="megatron", part="part-000"):
    """The ids of all documents, by shard."""
    folder = output / form / part
    shards = sorted({path.name.split(".")[0] for path in folder.iterdir() if path.name.startswith(("train", "valid"))})
    return {shard: [ids.tolist() for ids in READERS[form](str(folder), shard)] for shard in shards}


def tree(folder):
    """The bytes of every visible file below a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith("_") for part in path.relative_to(folder).parts)
    }
