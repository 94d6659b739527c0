"""The trained encoder as a folder in Hugging Face form, which every other tool opens."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pipeline.features.encoders.files import CONFIG, PREPROCESSOR
from pipeline.redaction import redact_json
from pipeline.store.storage import Store

if TYPE_CHECKING:
    import torch

WeightsDtype = Literal["float32", "float16"]
LINEAGE = "strata"
"""Key of config.json under which the lineage stands."""


def encoder_tensors(state: Mapping[str, "torch.Tensor"], dtype: WeightsDtype) -> dict[str, "torch.Tensor"]:
    """Pick the encoder's tensors out of a training checkpoint.

    Args:
        state: Tensors of ``MaskedPrediction``.
        dtype: Number format to save in.

    Returns:
        Tensors by the names of transformers' HubertModel.
    """
    import torch

    prefix = "encoder."
    kind: torch.dtype = getattr(torch, dtype)
    return {name.removeprefix(prefix): t.to(kind) for name, t in state.items() if name.startswith(prefix)}


def write_settings(
    store: Store, config: Mapping[str, Any], *, normalize: bool, sample_rate: int, lineage: Mapping[str, Any]
) -> None:
    """Write ``config.json``, with the lineage in it, and ``preprocessor_config.json``.

    Args:
        store: The encoder's folder.
        config: Fields of a HubertConfig.
        normalize: Whether waveforms are normalised.
        sample_rate: Hz.
        lineage: What the encoder was trained on and how.
    """
    from transformers import HubertConfig

    # What a published config.json says of its own origin may carry a signature.
    network = redact_json(HubertConfig(**{**config, "architectures": ["HubertModel"]}).to_dict())
    for name in ("dtype", "_attn_implementation", "attn_implementation"):
        network.pop(name, None)
    preprocessor = {
        "do_normalize": normalize,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": sample_rate,
    }
    store.write(PREPROCESSOR, (json.dumps(preprocessor, indent=2, sort_keys=True) + "\n").encode())
    store.write(CONFIG, (json.dumps({**network, LINEAGE: dict(lineage)}, indent=2, sort_keys=True) + "\n").encode())
