"""An encoder's files: where they are, what identifies them, and the tensors in them.

A folder in Hugging Face form holds ``config.json``, ``preprocessor_config.json`` and the weights, as safetensors
or as a ``.bin``. It may be local, below ``s3://`` or on the Hugging Face Hub; the last two are copied once to the
Hugging Face cache folder. No code of a repository is ever run.
"""

import fnmatch
import functools
import hashlib
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import EncoderError
from pipeline.features.encoders import shipped
from pipeline.store.storage import check_uri, open_store

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
MAX_JSON_BYTES = 16 << 20
"""Largest file of settings, or of names of weight files, that is read."""

# Of two formats the first is used: safetensors cannot hold code.
_FORMATS = (
    ("model*.safetensors", "model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model*.bin", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)

HEADS = frozenset(
    (
        *("lm_head", "classifier", "projector", "layer_weights", "tdnn", "feature_extractor", "objective"),
        *("quantizer", "project_hid", "project_q", "speaker_proj", "label_embeddings_concat", "layer_norm_for_extract"),
    )
)
"""First names of the task and pretraining heads that may stand beside an encoder; others are refused."""

UNUSED = frozenset(["masked_spec_embed", "adapter", "intermediate_ffn"])
"""First names of an encoder's own tensors that no block needs: SpecAugment's mask, the adapter after the blocks."""

CONFIG_KEYS = (
    *("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "conv_dim", "conv_stride", "conv_kernel"),
    *("conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "conv_pos_batch_norm"),
    *("do_stable_layer_norm", "feat_proj_layer_norm", "adapter_attn_dim", "num_buckets", "max_bucket_distance"),
)
"""What every network depends on; the rest of config.json is about training, heads and history, or one class's own."""

_OLD_NAMES = {
    "encoder.pos_conv_embed.conv.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv_embed.conv.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
}


def local_folder(name_or_dir: str, revision: str | None = None) -> Path:
    """Find an encoder's folder on this machine, fetching it first where it is elsewhere.

    Args:
        name_or_dir: Local folder, ``s3://`` folder, Hugging Face name as ``microsoft/wavlm-large``, or
            ``encoder-small``, the one that ships.
        revision: Git revision of a Hugging Face name.

    Raises:
        SettingsError: It carries credentials.
        EncoderError: It is nowhere, or a revision was given for a folder.
    """
    if not name_or_dir:
        raise EncoderError("there is no encoder folder ''; give a folder or a Hugging Face name")
    check_uri(name_or_dir, "an encoder")
    path = Path(name_or_dir.removeprefix("file://"))
    if shipped.is_shipped(name_or_dir):
        path = shipped.FOLDER
    in_s3 = name_or_dir.startswith("s3://")
    if revision is not None and (in_s3 or path.is_dir()):
        raise EncoderError(f"revision {revision!r} applies to Hugging Face names, and {name_or_dir} is a folder")
    if in_s3:
        return _fetched_from_s3(name_or_dir)
    if path.is_dir():
        return path
    if path.is_absolute() or name_or_dir.startswith(".") or name_or_dir.count("/") > 1:
        raise EncoderError(f"there is no encoder folder {name_or_dir!r}; give a folder or a Hugging Face name")
    return _fetched_from_hub(name_or_dir, revision)


def _fetched_from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    folder = Path()
    for pattern, *_ in _FORMATS:
        try:
            found = snapshot_download(name, revision=revision, allow_patterns=[CONFIG, PREPROCESSOR, f"{pattern}*"])
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"encoder {name!r} is no folder here and cannot be had from the Hugging Face Hub: {error}"
            ) from error
        folder = Path(found)
        if any(fnmatch.fnmatch(file.name, pattern) for file in folder.iterdir()):
            break
    return folder


def _fetched_from_s3(uri: str) -> Path:
    from huggingface_hub.constants import HF_HOME

    store = open_store(uri)
    names = [name for name in store.names() if _belongs(name)]
    if CONFIG not in names:
        raise EncoderError(f"{uri} holds no {CONFIG}; it must be an encoder folder in Hugging Face form")
    details = []
    for name in names:
        with store.open(name) as file:
            details.append([name, file.details["size"], file.details.get("ETag")])
    # Keyed by ETags, so that a replaced object is never answered from the cache.
    key = hashlib.sha256(json.dumps([uri, details]).encode()).hexdigest()[:32]
    cache = Path(HF_HOME) / "strata"
    folder = cache / key
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, ignore_cleanup_errors=True) as scratch:
        whole = Path(scratch) / key
        whole.mkdir()
        for name in names:
            with store.open(name) as source, (whole / name).open("wb") as target:
                shutil.copyfileobj(source, target, 2**24)
        try:
            whole.rename(folder)
        except OSError as error:
            # Another process of this node may have finished first; its copy is as good.
            if not folder.is_dir():
                raise EncoderError(f"{uri} cannot be cached at {folder}: {error}") from error
    return folder


def _belongs(name: str) -> bool:
    patterns = [f"{pattern}*" for pattern, *_ in _FORMATS]
    return name in (CONFIG, PREPROCESSOR) or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of an encoder folder.

    Raises:
        EncoderError: It is absent, no JSON object, or larger or deeper than any settings are.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise EncoderError(f"{path} has more than {MAX_JSON_BYTES:,} bytes, which no settings need")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderError(f"encoder folder {path.parent} holds no {path.name}") from error
    except RecursionError as error:
        raise EncoderError(f"{path} is nested deeper than any settings are; restore it") from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise EncoderError(f"{path} must hold a JSON object, found {type(found).__name__}")
    return found


def weight_files(folder: Path) -> list[Path]:
    """Name the files that hold the weights: one, or the pieces that an index lists.

    Returns:
        Paths, sorted; safetensors where both formats are there.

    Raises:
        EncoderError: There are none.
    """
    for _, single, index in _FORMATS:
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            pieces = _pieces(folder / index)
            wrong = [piece for piece in pieces if Path(piece).name != piece or not (folder / piece).is_file()]
            if wrong or not pieces:
                raise EncoderError(f"{folder / index} lists weight files that are not in its folder: {wrong}")
            return [folder / piece for piece in pieces]
    raise EncoderError(f"encoder folder {folder} holds neither {_FORMATS[0][1]} nor {_FORMATS[1][1]}")


def _pieces(index: Path) -> list[str]:
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(piece, str) for piece in found.values()):
        raise EncoderError(f"{index} must name a weight file for each tensor under weight_map; restore it")
    return sorted(set(found.values()))


def folder_files(folder: Path) -> list[Path]:
    """Name the files that make up an encoder: its settings, its weights and, for weights in pieces, their index.

    Raises:
        EncoderError: The weights are not there.
    """
    weights = weight_files(folder)
    indices = [folder / index for _, single, index in _FORMATS if weights[0].suffix == Path(single).suffix]
    settings = [folder / CONFIG, folder / PREPROCESSOR, *indices]
    return [path for path in settings if path.is_file()] + weights


def weights_sha256(
    folder: Path,
    config: Any,
    preprocessor: Mapping[str, Any],
    *,
    config_keys: Sequence[str] = (),
    preprocessor_keys: Sequence[str] = (),
) -> str:
    """Hash what an encoder computes with: weights, network and preprocessor; a copied folder gives the same.

    Args:
        folder: The encoder folder.
        config: Its configuration, defaults filled in.
        preprocessor: Its ``preprocessor_config.json``, empty when there is none.
        config_keys: What networks of its class depend on besides ``CONFIG_KEYS``.
        preprocessor_keys: What they depend on besides normalisation and rate.
    """
    identity = {
        "config": {key: getattr(config, key, None) for key in (*CONFIG_KEYS, *config_keys)},
        "preprocessor": {key: preprocessor.get(key) for key in ("do_normalize", "sampling_rate", *preprocessor_keys)},
        "weights": {path.name: _file_sha256(path, *_state(path)) for path in weight_files(folder)},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


# A driver describes one encoder for several stages; a large one takes a second or two to hash.
@functools.lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, modified: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def header_shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]] | None:
    """Read the shapes of all tensors from the headers of weight files; None where they have none, as a ``.bin``.

    Raises:
        EncoderError: A header is damaged.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for path in paths:
        if path.suffix != ".safetensors":
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise EncoderError(f"weights {path} are damaged: {error}") from error
    return shapes


def read_tensors(paths: Iterable[Path]) -> dict[str, "torch.Tensor"]:
    """Read the tensors of weight files, without running any code that a pickle may hold.

    Raises:
        EncoderError: A file is damaged, or holds something else than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        try:
            if path.suffix == ".safetensors":
                found = load_file(path)
            else:
                # Only the zip format of torch >= 1.6 can be mapped; older .bin files are read whole.
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except pickle.UnpicklingError as error:
            raise EncoderError(f"weights {path} hold more than tensors, or are no weights: {error}") from error
        except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
            raise EncoderError(f"weights {path} are damaged: {error}") from error
        if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise EncoderError(f"weights {path} must hold a dictionary of tensors")
        tensors |= found
    return tensors


def encoder_state(
    tensors: dict[str, "torch.Tensor"], expected: Sequence[str], *, prefix: str, kept_blocks: int, num_blocks: int
) -> dict[str, "torch.Tensor"]:
    """Pick the tensors of the (cut) encoder out of a checkpoint.

    Args:
        tensors: A checkpoint's tensors; task heads may stand beside the encoder, whose names then have a prefix.
        expected: Names in the network that is to be filled.
        prefix: Name of the encoder in a model with a head, as ``hubert``.
        kept_blocks: Blocks of the network after the cut.
        num_blocks: Blocks of the published network.

    Returns:
        Exactly the expected names.

    Raises:
        EncoderError: Names are missing, or names are left over that are neither a head nor a block cut off.
    """
    prefixed = any(name.startswith(f"{prefix}.") for name in tensors)
    wanted = set(expected)
    cut = {f"encoder.layers.{block}" for block in range(kept_blocks, num_blocks)}
    state: dict[str, torch.Tensor] = {}
    unknown = []
    for original, tensor in tensors.items():
        bare = original.removeprefix(f"{prefix}.")
        name = _OLD_NAMES.get(bare, bare)
        first = name.split(".")[0]
        if prefixed and bare == original:
            known = first in HEADS
        elif name in wanted:
            state[name] = tensor
            known = True
        else:
            known = first in UNUSED or ".".join(name.split(".")[:3]) in cut
        if not known:
            unknown.append(original)
    missing = sorted(wanted - set(state))
    if missing or unknown:
        raise EncoderError(
            f"the weights do not fit the network of {CONFIG}: {len(missing)} missing {missing[:4]}, "
            f"{len(unknown)} unexpected {sorted(unknown)[:4]}; is {CONFIG} the one of these weights?"
        )
    return state
