"""HuBERT with a head for each target: predicts the tokens of masked frames from those around them.

Source: Hsu et al. 2021, HuBERT, section II-B. The cosine head is equation 3 with temperature 0.1; the linear head is a
plain softmax layer, which learned faster on small data: masked loss 3.30 against 3.41 after 400 steps of 32 s. Unlike
HuBERT's, the stem's gradients are not scaled and its activations have no penalty.

Letters: B batch, S samples, T frames, D width, K clusters, C target columns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy, normalize

from pipeline.features.encoders.files import encoder_state, local_folder, read_json, read_tensors, weight_files
from pipeline.training.recipe import Losses, Sums

Head = Literal["linear", "cosine"]

_TEMPERATURE = 0.1
_COSINE_WIDTH = 256
_MASK = "masked_spec_embed"
MASKED, UNMASKED = "masked", "unmasked"


class CosineHead(torch.nn.Module):
    """Logits that are cosines between a projected frame and an embedding of each token, over the temperature."""

    def __init__(self, dim: int, num_clusters: int) -> None:
        super().__init__()
        self.projection = torch.nn.Linear(dim, _COSINE_WIDTH)
        self.embeddings = torch.nn.Parameter(torch.randn(num_clusters, _COSINE_WIDTH))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Give (N, K) logits of frames (N, D)."""
        frames = normalize(self.projection(hidden).float(), dim=-1)
        # Autocast would round the cosines to bfloat16: steps of 0.004 near 1, of 0.04 over the temperature.
        with torch.autocast(hidden.device.type, enabled=False):
            return frames @ normalize(self.embeddings.float(), dim=-1).T / _TEMPERATURE


class MaskedPrediction(torch.nn.Module):
    """An encoder and its heads; gives sums of losses, which the training loop divides."""

    def __init__(self, encoder: torch.nn.Module, num_clusters: Sequence[int], head: Head) -> None:
        """Put heads onto an encoder.

        Args:
            encoder: transformers' HubertModel.
            num_clusters: K of each target column (C).
            head: What predicts tokens from the last layer.
        """
        super().__init__()
        self.encoder = encoder
        dim = encoder.config.hidden_size  # type: ignore[union-attr]
        kind: Any = torch.nn.Linear if head == "linear" else CosineHead
        self.heads = torch.nn.ModuleList(kind(dim, count) for count in num_clusters)

    def forward(self, waveform: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> Losses:
        """Predict the tokens of a micro-batch.

        Args:
            waveform: (B, S) float32, normalised.
            targets: (B, T, C) int64.
            mask: (B, T) bool, True where the encoder must not hear.

        Returns:
            ``masked`` and ``unmasked``, sums over frames of the cross entropy in nats, averaged over targets; to watch,
            ``masked_accuracy`` and ``unmasked_accuracy`` of these frames: whose token is the likeliest, averaged over
            targets.
        """
        hidden_BTD = self.encoder(waveform, mask_time_indices=mask).last_hidden_state
        hidden_ND, mask_N = hidden_BTD.flatten(0, 1), mask.flatten()
        chosen_N = {MASKED: mask_N, UNMASKED: ~mask_N}
        found = {name: hidden_ND.new_zeros((), dtype=torch.float32) for name in chosen_N}
        right = {name: hidden_ND.new_zeros((), dtype=torch.float32) for name in chosen_N}
        for head, target_N in zip(self.heads, targets.flatten(0, 1).unbind(dim=1), strict=True):
            logits_NK = head(hidden_ND).float()
            loss_N = cross_entropy(logits_NK, target_N, reduction="none")
            right_N = logits_NK.argmax(dim=1) == target_N
            for name, those_N in chosen_N.items():
                found[name] = found[name] + (loss_N * those_N).sum() / len(self.heads)
                right[name] += (right_N & those_N).sum() / len(self.heads)
        return found | {f"{name}_accuracy": Sums(right[name], chosen_N[name].sum()) for name in chosen_N}


def build_encoder(config: dict[str, Any], init: str | None, revision: str | None = None) -> torch.nn.Module:
    """Make a HubertModel to train.

    Args:
        config: Fields of a HubertConfig.
        init: Encoder whose weights it begins with, in Hugging Face form; None draws them. Its config.json says the
            shape then, and ``config`` the rest.
        revision: Git revision of a Hugging Face name.

    Raises:
        EncoderError: The encoder cannot be loaded whole.
    """
    from transformers import HubertModel

    # Scaled dot product attention is slow backward on CPU: a third of a step (crops of 2 s, bfloat16).
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    if init is None:
        return HubertModel(_config(config, attention))
    folder = local_folder(init, revision)
    fields = {**read_json(folder / "config.json"), **config}
    network = HubertModel(_config(fields, attention))
    network.load_state_dict(_published(folder, network))
    return network


def _config(fields: dict[str, Any], attention: str) -> Any:
    from transformers import HubertConfig

    config: Any = HubertConfig(**fields)
    config._attn_implementation = attention
    return config


def _published(folder: Path, network: Any) -> dict[str, torch.Tensor]:
    tensors = read_tensors(weight_files(folder))
    own = network.state_dict()
    # Models that were fine-tuned may have lost the embedding of masked frames.
    prefix = "hubert." if any(name.startswith("hubert.") for name in tensors) else ""
    absent = {} if f"{prefix}{_MASK}" in tensors else {f"{prefix}{_MASK}": own[_MASK]}
    blocks = network.config.num_hidden_layers
    state = encoder_state(tensors | absent, list(own), prefix="hubert", kept_blocks=blocks, num_blocks=blocks)
    return {name: tensor.float() for name, tensor in state.items()}
