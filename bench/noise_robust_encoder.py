"""Train encoder-small on to hear in noise what it hears in silence, as WavLM is trained.

    python -m bench.noise_robust_encoder --data DATA --output robust [--steps 900]

The speech is the 108 minutes of ``bench.enhancement_study`` with its noises and rooms of training, so what that study
judges is heard by neither. Targets are the tokens that encoder-small gives the clean speech, layers 2, 4 and 6 with the
codebooks that ship, K = 500. Four of five crops are mixed with noise at 0 to 25 dB, three of ten are heard in a room;
few frames are masked, and the loss is over all. The idea is that of S. Chen et al., "WavLM", 2022, section III-B.
Writes the encoder into ``robust/encoder``; goes on where it was.
"""

import argparse
from pathlib import Path

from bench.enhancement_study import HERE, training_sounds
from bench.study_corpora import write_listing
from bench.vocoder_study import job


def main() -> None:
    """Prepare and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=900)
    given = parser.parse_args()
    folder = given.output
    listing = write_listing("read", given.data, folder)
    manifest, targets = folder / "manifest", folder / "targets"
    job("build_manifest", corpus=listing, layout="listing", roots=given.data, output=manifest, **HERE)
    job("tokenize_corpus", manifest=manifest, encoder="encoder-small", layers=(2, 4, 6), num_clusters=500,
            codebooks="encoder-small", output=targets, **HERE)  # fmt: skip
    noises, rooms = training_sounds(given.data, folder, listing)
    job("pretrain_encoder", manifest=manifest, tokens=targets, output=folder / "encoder", shape="small", head="linear",
            init_encoder="encoder-small", noise=noises, noise_probability=0.8, min_snr_db=0, max_snr_db=25, rooms=rooms,
            room_probability=0.3, mask_probability=0.2, unmasked_weight=1, dropout=0.05, crop_seconds=4.02,
            batch_seconds=16, batches_per_step=2, lr=1e-3, warmup_steps=100, lr_end=0.05, num_steps=given.steps,
            valid_fraction=0.02, valid_minutes=4, validate_every=150, checkpoint_every=150, threads_per_worker=1,
            **HERE)  # fmt: skip


if __name__ == "__main__":
    main()
