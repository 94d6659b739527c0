"""Layer use: which layers a fuser listens to in each utterance, from its weights a_{l,t}. Knows no torch.

The mean weight of a layer says how much it is used. Two entropies say how it is chosen: that of the mean weights is
high where many layers are used, the mean of the frames' own is high where each frame uses many. Where the first is high
and the second low, the layer is chosen anew from frame to frame; a fuser with fixed weights has both equal.
Letters: B batch, T frames, L layers.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerUse:
    """Layer use of utterances; means are over an utterance's real frames.

    Attributes:
        num_frames: int64 (B,), real frames: what an utterance weighs in a mean over frames of several.
        mean: float64 (B, L), mean weight of each layer; adds up to 1.
        spread: float64 (B, L), standard deviation of a layer's weight over the frames.
        entropy: float64 (B,), of the mean weights, nats; in 0 to log L.
        entropy_share: float64 (B,), the same as a share of log L; 0 where one layer is present.
        frame_entropy: float64 (B,), mean of the frames' entropies, nats; at most ``entropy``.
        frame_entropy_share: float64 (B,), the same as a share of log L; 0 where one layer is present.
    """

    num_frames: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    entropy: np.ndarray
    entropy_share: np.ndarray
    frame_entropy: np.ndarray
    frame_entropy_share: np.ndarray


def layer_use(weights: np.ndarray, mask: np.ndarray, present: np.ndarray | None = None) -> LayerUse:
    """Measure the layer use of a batch.

    Args:
        weights: Floats (B, T, L); those of each real frame add up to 1.
        mask: bool (B, T), True in real frames.
        present: bool (L,) or (B, L), the layers that were there; None: all. L of log L is their number.

    Raises:
        ValueError: An utterance has no frame, or the weights of a real frame do not add up to 1.
    """
    weights_BTL = np.asarray(weights, dtype=np.float64)
    num_frames = mask.sum(axis=1)
    if (num_frames == 0).any():
        raise ValueError(f"utterance(s) {np.flatnonzero(num_frames == 0).tolist()} have no frame to measure")
    off = np.abs(weights_BTL.sum(axis=-1) - 1)[mask].max()
    # float32 weights of a hundred layers are within 1e-5 of it; those of bfloat16 are not given.
    if not off < 1e-3:
        raise ValueError(f"the weights of a frame add up to 1, these are off by {off:.3g}")
    real_BT1 = mask[..., None]
    mean = _mean(weights_BTL, real_BT1, num_frames)
    spread = np.sqrt(_mean((weights_BTL - mean[:, None]) ** 2, real_BT1, num_frames))
    frame_entropy = _mean(_entropy(weights_BTL)[..., None], real_BT1, num_frames)[:, 0]
    num_layers, count = weights_BTL.shape[-1], np.asarray(True if present is None else present)
    most = np.log(np.broadcast_to(count, (len(mask), num_layers)).sum(axis=1))
    mean_entropy = _entropy(mean)
    return LayerUse(
        num_frames=num_frames.astype(np.int64),
        mean=mean,
        spread=spread,
        entropy=mean_entropy,
        entropy_share=_share(mean_entropy, most),
        frame_entropy=frame_entropy,
        frame_entropy_share=_share(frame_entropy, most),
    )


def entropy(weights: np.ndarray) -> float:
    """Give the entropy of weights (L,) that add up to 1, nats; 0 log 0 is 0."""
    return float(_entropy(np.asarray(weights, dtype=np.float64)))


def entropy_share(weights: np.ndarray) -> float:
    """Give the entropy of weights (L,) as a share of log L, the highest possible; 0 of one layer."""
    return entropy(weights) / math.log(len(weights)) if len(weights) > 1 else 0.0


def _mean(values_BTX: np.ndarray, real_BT1: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
    mean: np.ndarray = np.where(real_BT1, values_BTX, 0.0).sum(axis=1) / num_frames[:, None]
    return mean


def _entropy(weights: np.ndarray) -> np.ndarray:
    logs = np.log(np.where(weights > 0, weights, 1.0))
    found: np.ndarray = np.maximum(-(weights * logs).sum(axis=-1), 0.0)
    return found


def _share(found: np.ndarray, most: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(found, most, out=np.zeros_like(found), where=most > 0)
    return share
