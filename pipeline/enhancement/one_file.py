"""One noisy recording by way of its tokens: tokenised, enhanced, spoken and written, without Ray."""

from pipeline.bundle import Bundle
from pipeline.enhancement.settings import EnhanceConfig
from pipeline.synthesis.one_file import check_target, say_file
from pipeline.synthesis.spoken_file import SpokenFile
from pipeline.work.runtime import kept_threads


def enhance_file(config: EnhanceConfig) -> SpokenFile:
    """Enhance a recording of at most an hour and write it: 16 bits, the vocoder's rate.

    Args:
        config: With each part named.

    Raises:
        AudioDecodeError: The recording cannot be read, or is too long.
        FeatureError: It is too short for one frame.
        CodebookMismatchError: Tokenizer, enhancement and vocoder do not belong together.
        SettingsError: A path or a setting does not fit.
    """
    assert config.tokenizer is not None
    target = check_target(config)
    with kept_threads(config.threads_per_worker):
        bundle = Bundle.from_pretrained(
            config.tokenizer, vocoder=config.vocoder, enhancement=config.task, threads=config.threads_per_worker
        )
        config = config.but(layers=bundle.choose_layers(config.layers))
        return say_file(config, target, bundle.tokenizer, bundle.clean)
