"""Small runs of train_vocoder, on tones whose tokens are known."""

from pipeline.vocoder.training.settings import TrainVocoderConfig

COLUMNS = ("layer_02", "layer_04", "layer_06")
SMALL = {
    "convnext_dim": 16,
    "convnext_hidden": 24,
    "convnext_blocks": 2,
    "embedding_dim": 12,
    "discriminators": ("period", "resolution"),
    "periods": (2, 3),
    "resolutions": (256,),
    "resolution_channels": 4,
    "mel_windows": (512,),
    "mel_bins": (40,),
    "num_steps": 6,
    "warmup_steps": 1,
    "crop_seconds": 0.5,
    "batch_seconds": 2.0,
    "valid_fraction": 0.2,
    "test_fraction": 0.1,
    "valid_seconds": 1.0,
    "discriminators_from": 2,
    "ema_decay": 0.8,
    "validate_every": 3,
    "checkpoint_every": 2,
    "log_every": 1,
    "threads_per_worker": 1,
    "runner": "here",
}


def vocoder_config(folder, output, **changes):
    """Give the settings of a small run on a corpus of tones."""
    inputs = {"manifest": str(folder / "manifest"), "tokens": str(folder / "tokens")}
    return TrainVocoderConfig.of(output=str(output), **{**SMALL, **inputs, **changes})


def job_flags(config):
    """Give the flags of a job that has these settings, without those that are as usual."""
    given = config.flat()
    needed = {
        name: given[name] for name in ("output", "manifest", "tokens", "embedding_dim", "num_steps", "warmup_steps")
    }
    usual = TrainVocoderConfig.of(**needed).flat()
    words = []
    for name, value in given.items():
        if name in needed or value != usual[name]:
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return words
