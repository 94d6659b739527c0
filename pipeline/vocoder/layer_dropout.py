"""Layer dropout: which layers of each utterance a vocoder is given in training.

Source: Mousavi et al., "How Should We Extract Discrete Audio Tokens from Self-Supervised Models?", Interspeech 2024:
the number of dropped layers is uniform on 0..L-1, and so is their set. Their loader also drops in validation; here
validation has fixed sets (``layer_sets.py``).
"""

import torch


def draw_layers(batch: int, num_layers: int, generator: torch.Generator) -> torch.Tensor:
    """Draw the layers that each utterance keeps.

    Args:
        batch: Utterances (B).
        num_layers: Layers (L).
        generator: Of the CPU; its state is all that a resumed training needs.

    Returns:
        bool (B, L), True for kept ones: their number is uniform on 1..L, and their set among those of that number.
    """
    kept = torch.randint(1, num_layers + 1, (batch, 1), generator=generator)
    # The ranks of independent numbers are a uniform permutation.
    ranks = torch.rand(batch, num_layers, generator=generator, dtype=torch.float64).argsort(dim=1)
    return ranks < kept
