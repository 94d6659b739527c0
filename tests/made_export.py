"""Exports, and what they hold."""

from pipeline.export.formats.registry import READERS
from pipeline.export.settings import ExportTokensConfig


def config_of(folder, output, **settings):
    """Settings that export the corpus below a folder."""
    return ExportTokensConfig.of(
        **{"tokens": str(folder / "tokens"), "manifest": str(folder / "manifest"), "output": str(output)}
        | {"runner": "here"}
        | settings
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
