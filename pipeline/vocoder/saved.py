"""A vocoder's folder: ``model.safetensors`` and ``config.json``, which binds it to its encoder and codebooks by hashes.

Weight norm is folded in what is written, so what is read speaks at once. The configuration names the SHA-256 of the
weights: files of two vocoders in one folder are noticed. Equal vocoders are equal bytes. Where speakers are vectors, it
also names the speaker encoder, and ``speakers.safetensors`` may hold a mean vector per speaker.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SchemaMismatchError, SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec
from pipeline.metrics.speech.judge import Library
from pipeline.store.dataset import canonical, sha256
from pipeline.store.storage import Store, open_store
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.shipped import vocoder_folder
from pipeline.vocoder.spec import VocoderSpec

if TYPE_CHECKING:
    import torch

    from pipeline.vocoder.network import Vocoder

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
VOICES = "speakers.safetensors"
"""The mean vector of each speaker that a vocoder with ``speaker_input`` vector knows by name, in the order of names."""
OWN_HASH = "config_sha256"
"""Where a configuration names the SHA-256 of the rest of itself, so that a changed number is noticed."""
VOCODER = "vocoder"
"""Where a tokenizer's folder holds its vocoder: ``train_vocoder --output out/tokenizer/vocoder`` puts it there."""
FORMAT = "strata-vocoder"
Dtype = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True)
class SavedVocoder:
    """A vocoder's folder.

    Attributes:
        spec: What it is made for.
        sha256: SHA-256 of its weights' file, for the content key of what it speaks.
        training: What whoever trained it says: data, steps, and what else it gave.
        voices_sha256: SHA-256 of the file of mean vectors; None where there is none.
    """

    spec: VocoderSpec
    sha256: str
    training: Mapping[str, Any]
    voices_sha256: str | None = None


def write_vocoder(
    uri: str,
    spec: VocoderSpec,
    tensors: Mapping[str, "torch.Tensor"],
    *,
    dtype: Dtype = "float32",
    training: Mapping[str, Any] | None = None,
    voices: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a vocoder into a folder; one that is there is replaced.

    Args:
        uri: The folder, local or s3://.
        spec: As ``vocoder_files``.
        tensors: As ``vocoder_files``.
        dtype: As ``vocoder_files``.
        training: As ``vocoder_files``.
        voices: As ``vocoder_files``.

    Raises:
        CorruptDatasetError: The tensors are not those of such a vocoder, or are not finite in that type.
    """
    store = open_store(uri)
    for name, data in vocoder_files(uri, spec, tensors, dtype=dtype, training=training, voices=voices).items():
        store.write(name, data)


def vocoder_files(
    uri: str,
    spec: VocoderSpec,
    tensors: Mapping[str, "torch.Tensor"],
    *,
    dtype: Dtype = "float32",
    training: Mapping[str, Any] | None = None,
    voices: Mapping[str, np.ndarray] | None = None,
) -> dict[str, bytes]:
    """Give the files of a vocoder's folder by name, ``WEIGHTS`` first.

    Args:
        uri: The folder, for messages.
        spec: What the vocoder is made for.
        tensors: Its ``state_dict()``, weight norm folded or not, or the same out of a checkpoint.
        dtype: Of the weights in the file; float16 halves it.
        training: What is to be kept of how it was trained, as JSON knows it.
        voices: The mean vector of each speaker that is known by name, float32 (speaker_dim,), for ``speaker_input``
            vector.

    Raises:
        CorruptDatasetError: The tensors are not those of such a vocoder, or are not finite in that type.
    """
    import torch
    from safetensors.torch import save

    vocoder = _built(spec, tensors, uri)
    kept = {}
    for name, tensor in vocoder.state_dict().items():
        cast = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        if not bool(cast.isfinite().all()):
            raise CorruptDatasetError(f"the weights {name} of the vocoder for {uri} are not finite in {dtype}")
        kept[name] = cast.detach().cpu().contiguous().clone()
    files = {WEIGHTS: save(kept)}
    bound = {"weights_sha256": sha256(files[WEIGHTS])}
    if voices:
        names = sorted(voices)
        spec = replace(spec, speakers=tuple(names))
        files[VOICES] = _voices_bytes([voices[name] for name in names])
        bound["voices_sha256"] = sha256(files[VOICES])
    config = {**_described(spec), "dtype": dtype, **bound, "training": dict(training or {})}
    return {**files, CONFIG: config_bytes(config)}


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """Give the file of a configuration, with a hash of all else that is in it."""
    told = json.loads(canonical({**config, OWN_HASH: _own_hash(config)}))
    return (json.dumps(told, indent=2) + "\n").encode()


def _own_hash(config: Mapping[str, Any]) -> str:
    return sha256(canonical({name: value for name, value in config.items() if name != OWN_HASH}).encode())


def _voices_bytes(vectors: list[np.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save({"vectors": np.stack(vectors).astype(np.float32)})


def read_spec(uri: str) -> SavedVocoder:
    """Read what a saved vocoder is made for. Needs no torch, and reads no weights.

    Raises:
        CorruptDatasetError: The configuration is damaged.
        SchemaMismatchError: It is no vocoder of this version.
        SettingsError: There is none.
    """
    store = open_store(vocoder_folder(uri))
    where = f"{store.uri}/{CONFIG}"
    try:
        config = json.loads(store.read(CONFIG))
    except (FileNotFoundError, NotADirectoryError):
        raise SettingsError(f"{where} is not there; train_vocoder writes a vocoder's folder") from None
    except ValueError as error:
        raise CorruptDatasetError(f"{where} is no whole JSON file ({error}); restore it or train it again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise SchemaMismatchError(f"{where} describes no vocoder of Strata: its format is not {FORMAT!r}")
    if config.get("schema_version") != schema.SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"{where} has schema version {config.get('schema_version')!r}, this Strata reads {schema.SCHEMA_VERSION}; "
            "train it again"
        )
    if config.get(OWN_HASH, (found := _own_hash(config))) != found:
        raise CorruptDatasetError(f"{where} was changed since it was written; restore it or train it again")
    try:
        return SavedVocoder(
            spec=_spec(config),
            sha256=config["weights_sha256"],
            training=config["training"],
            voices_sha256=config.get("voices_sha256"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptDatasetError(
            f"{where} lacks what a vocoder's has ({error!r}); restore it or train it again"
        ) from error


def check_weights(uri: str) -> None:
    """Read a saved vocoder's weights and refuse other bytes than its configuration names. Needs no torch.

    Raises:
        CorruptDatasetError: They are damaged, or gone.
        SettingsError: There is no vocoder.
    """
    _bound(open_store(vocoder_folder(uri)), WEIGHTS, read_spec(uri).sha256)


def load_vocoder(uri: str, *, device: str = "cpu") -> "Vocoder":
    """Load a saved vocoder, ready to speak: float32, weight norm folded, ``eval()``.

    Args:
        uri: Its folder, local or s3://.
        device: A torch device.

    Raises:
        CorruptDatasetError: A file is damaged, or the two are not of one vocoder.
        SchemaMismatchError: It is no vocoder of this version.
        SettingsError: There is none.
    """
    from safetensors.torch import load

    saved = read_spec(uri)
    store = open_store(vocoder_folder(uri))
    return _built(saved.spec, load(_bound(store, WEIGHTS, saved.sha256)), uri).to(device).eval()


def read_voices(uri: str) -> dict[str, np.ndarray]:
    """Read the mean vectors of the speakers that a saved vocoder knows by name. Needs no torch.

    Args:
        uri: Its folder, local or s3://.

    Returns:
        float32 (speaker_dim,) of length 1 by name; none where the folder has none.

    Raises:
        CorruptDatasetError: The file is damaged, or of another vocoder.
        SchemaMismatchError: It is no vocoder of this version.
        SettingsError: There is none.
    """
    from safetensors.numpy import load

    saved = read_spec(uri)
    if saved.voices_sha256 is None:
        return {}
    store = open_store(vocoder_folder(uri))
    vectors = load(_bound(store, VOICES, saved.voices_sha256))["vectors"]
    shape = (len(saved.spec.speakers), saved.spec.settings.speaker_dim)
    if vectors.shape != shape:
        raise CorruptDatasetError(
            f"{store.uri}/{VOICES} has vectors {vectors.shape}, and {CONFIG} tells of {shape}; restore the folder or "
            "train it again"
        )
    return dict(zip(saved.spec.speakers, vectors, strict=True))


def _bound(store: Store, name: str, digest: str) -> bytes:
    """Read a file of a vocoder's folder, which ``CONFIG`` names by its SHA-256."""
    try:
        data = store.read(name)
    except FileNotFoundError:
        raise CorruptDatasetError(f"{store.uri}/{name} is not there; restore it or train it again") from None
    if sha256(data) != digest:
        raise CorruptDatasetError(
            f"{store.uri}/{name} is not the file that {CONFIG} names (SHA-256 {sha256(data)[:12]}, not {digest[:12]}); "
            "restore the folder or train it again"
        )
    return data


def _built(spec: VocoderSpec, tensors: Mapping[str, "torch.Tensor"], uri: str) -> "Vocoder":
    """Build the vocoder of a state, weight norm folded; torch's random state stays as it is."""
    import torch

    from pipeline.vocoder.network import build_vocoder

    with torch.random.fork_rng(devices=[]):
        vocoder = build_vocoder(_plain(spec))
    if not any("parametrizations" in name for name in tensors):
        vocoder.fold_weight_norm()
    try:
        vocoder.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CorruptDatasetError(
            f"the weights of the vocoder {uri} are not those that its configuration describes "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    vocoder.fold_weight_norm()
    return vocoder


def _plain(spec: VocoderSpec) -> VocoderSpec:
    """Give the spec of the same network without what it began with: centroids or a saved fuser."""
    fuser = spec.fuser
    settings = fuser.settings.but(
        fuser=None, freeze_fuser=False, embedding_init="random", embedding_dim=fuser.output_dim
    )
    return replace(spec, fuser=replace(fuser, settings=settings, codebooks=None))


def _described(spec: VocoderSpec) -> dict[str, Any]:
    fuser = spec.fuser
    encoder = {} if spec.speaker_encoder is None else {"speaker_encoder": asdict(spec.speaker_encoder)}
    return {
        "format": FORMAT,
        "schema_version": schema.SCHEMA_VERSION,
        "sample_rate": spec.sample_rate,
        "hop_length": spec.hop_length,
        "encoder_sha256": fuser.encoder_sha256,
        "layers": list(spec.columns),
        "num_clusters": {column: fuser.num_clusters[column] for column in spec.columns},
        "codebooks": {column: fuser.codebook_sha256[column] for column in spec.columns},
        "dim": fuser.dim,
        "speakers": list(spec.speakers),
        **encoder,
        "network": spec.settings.flat(),
        "fusing": _plain(spec).fuser.settings.flat(),
        "embedding_began_as": "fuser" if fuser.settings.fuser is not None else fuser.settings.embedding_init,
    }


def _spec(config: Mapping[str, Any]) -> VocoderSpec:
    columns, encoder = tuple(config["layers"]), config.get("speaker_encoder")
    return VocoderSpec(
        settings=VocoderSettings.of(**_tuples(config["network"])),
        fuser=FuserSpec(
            settings=FusionSettings.of(**_tuples(config["fusing"])),
            kind="tokens",
            columns=columns,
            dim=config["dim"],
            encoder_sha256=config["encoder_sha256"],
            num_clusters={column: int(config["num_clusters"][column]) for column in columns},
            codebook_sha256={column: config["codebooks"][column] for column in columns},
        ),
        sample_rate=config["sample_rate"],
        hop_length=config["hop_length"],
        speakers=tuple(config["speakers"]),
        speaker_encoder=None if encoder is None else Library(**encoder),
    )


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
