"""A fuser on its own: ``fuser.safetensors``, with its lineage, so that another task can begin with it.

The lineage is the one metadata key ``strata``, sorted JSON, as in codebooks: equal fusers are equal bytes. A fuser is
taken where everything agrees that its weights depend on: what it is given, how it fuses, layers and their order, K,
codebooks by hash, widths. What differs is named. Whether it learns on is a setting of who takes it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SchemaMismatchError, SettingsError
from pipeline.fusion.spec import FuserSpec
from pipeline.store.dataset import canonical, sha256
from pipeline.store.storage import Store, open_store

if TYPE_CHECKING:
    import torch

NAME = "fuser.safetensors"
"""The file's name in a folder."""

_KIND = "fuser"
_METADATA = schema.LINEAGE_KEY.decode()
_MOST_HEADER = 1 << 24
_FLAGS = {"fusion": "--fusion", "embedding_dim": "--embedding-dim", "scorer_dim": "--scorer-dim"}


@dataclass(frozen=True, kw_only=True)
class SavedFuser:
    """A fuser's file.

    Attributes:
        lineage: What it was made for, and how it fuses.
        sha256: SHA-256 of the file, for the content key of what is made with it.
    """

    lineage: Mapping[str, Any]
    sha256: str


def fuser_lineage(spec: FuserSpec) -> dict[str, Any]:
    """Give what a fuser's file says of it."""
    settings = spec.settings
    return {
        "kind": _KIND,
        "schema_version": schema.SCHEMA_VERSION,
        "encoder_sha256": spec.encoder_sha256,
        "embedding_init": settings.embedding_init,
        "freeze_embedding": settings.freeze_embedding,
        **_identity(spec),
    }


def _identity(spec: FuserSpec) -> dict[str, Any]:
    """Give what must agree for its weights to mean the same."""
    settings = spec.settings
    found: dict[str, Any] = {
        "input": spec.kind,
        "fusion": settings.fusion,
        "fusion_layer": settings.fusion_layer,
        "layers": list(spec.columns),
        "embedding_dim": spec.output_dim,
        "scorer_dim": spec.scorer_dim if settings.fusion == "attention" else None,
    }
    if spec.kind == "features":
        return {**found, "dim": spec.dim, "encoder_sha256": spec.encoder_sha256}
    sizes = {column: spec.num_clusters[column] for column in spec.columns}
    return {**found, "num_clusters": sizes, "codebooks": {name: spec.codebook_sha256[name] for name in spec.columns}}


def fuser_bytes(spec: FuserSpec, tensors: Mapping[str, "torch.Tensor"]) -> bytes:
    """Give the content of ``fuser.safetensors``; equal fusers give equal bytes in every process.

    Args:
        spec: What the fuser is made for.
        tensors: Its ``state_dict()``, or the same out of a checkpoint.
    """
    from safetensors.torch import save

    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(kept, metadata={_METADATA: canonical(fuser_lineage(spec))})


def write_fuser(uri: str, spec: FuserSpec, tensors: Mapping[str, "torch.Tensor"]) -> None:
    """Write a fuser into a folder, whole or not at all; one that is there is replaced.

    Args:
        uri: The folder, local or s3://.
        spec: What the fuser is made for.
        tensors: Its ``state_dict()``, or the same out of a checkpoint.
    """
    open_store(uri).write(NAME, fuser_bytes(spec, tensors))


def read_fuser(uri: str, spec: FuserSpec) -> dict[str, "torch.Tensor"]:
    """Read the weights of a saved fuser for another task.

    Args:
        uri: Its folder, or the file.
        spec: What it is to be used for.

    Returns:
        What ``Fuser.load_state_dict`` takes.

    Raises:
        CorruptDatasetError: The file is damaged.
        SchemaMismatchError: It is no fuser.
        SettingsError: There is none, or it was made for something else; the message names what differs.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    store, name = _place(uri)
    _check(uri, _read_lineage(uri), spec)
    data = store.read(name)
    try:
        return load(data)
    except SafetensorError as error:
        raise CorruptDatasetError(
            f"{store.uri}/{name} is no whole safetensors file ({error}); restore it or train it again"
        ) from error


def check_fuser(uri: str, spec: FuserSpec) -> SavedFuser:
    """Refuse a saved fuser that does not fit, before anything starts. Needs no torch.

    Raises:
        CorruptDatasetError: The file is damaged.
        SchemaMismatchError: It is no fuser.
        SettingsError: There is none, or it was made for something else; the message names what differs.
    """
    store, name = _place(uri)
    lineage = _read_lineage(uri)
    _check(uri, lineage, spec)
    return SavedFuser(lineage=lineage, sha256=sha256(store.read(name)))


def _place(uri: str) -> tuple[Store, str]:
    """Give the store and name of a fuser that is given as a folder or a file."""
    folder, _, last = uri.rpartition("/")
    if last.endswith(".safetensors"):
        return open_store(folder or ("/" if uri.startswith("/") else ".")), last
    return open_store(uri), NAME


def _read_lineage(uri: str) -> dict[str, Any]:
    """Read the lineage from the head of a fuser's file."""
    store, name = _place(uri)
    where = f"{store.uri}/{name}"
    try:
        with store.open(name) as file:
            size = int.from_bytes(file.read(8), "little")
            head = file.read(size) if size <= _MOST_HEADER else b""
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(f"{where} is not there; fuser names a saved fuser, {NAME} or its folder") from None
    try:
        header = json.loads(head)
    except ValueError as error:
        raise CorruptDatasetError(f"{where} is no whole safetensors file; restore it or train it again") from error
    try:
        lineage = json.loads(header["__metadata__"][_METADATA])
        kind, version = lineage["kind"], lineage["schema_version"]
    except (KeyError, TypeError, ValueError):
        kind, version, lineage = None, None, {}
    if kind != _KIND:
        raise SchemaMismatchError(f"{where} is no fuser of Strata: its header has no {_METADATA!r} lineage of one")
    if version != schema.SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"{where} has schema version {version!r}, this Strata reads {schema.SCHEMA_VERSION}; train it again"
        )
    return dict(lineage)


def _check(uri: str, there: Mapping[str, Any], spec: FuserSpec) -> None:
    here = _identity(spec)
    if there.get("input") != spec.kind:
        raise SettingsError(
            f"the fuser {uri} was trained on {there.get('input')}, and this task gives it {spec.kind}: input differs"
        )
    told = [line for name, value in here.items() for line in _differences(name, there.get(name), value)]
    if told:
        raise SettingsError(
            f"the fuser {uri} was trained for something else: {'; '.join(told)}. Give it what it was trained for, or "
            "train a new one"
        )


def _differences(name: str, there: Any, here: Any) -> list[str]:
    """Say what differs, column by column where columns have values of their own."""
    if there == here:
        return []
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            f"{name} of {column}: {_brief(there[column])} there, {_brief(here[column])} here"
            for column in here
            if column in there and there[column] != here[column]
        ]
    flag = f" ({_FLAGS[name]} {there})" if name in _FLAGS and there is not None else ""
    return [f"{name}: {_brief(there)} there{flag}, {_brief(here)} here"]


def _brief(value: Any) -> str:
    """Shorten a hash, and write a list with commas."""
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)
