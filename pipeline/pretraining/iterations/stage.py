"""Train an encoder from nothing but audio: each iteration learns the tokens that the one before it makes possible.

    mfcc -> codebook -> tokens -> encoder 1 -> codebook of one of its layers -> tokens -> encoder 2 -> ...

Reads: a manifest. Writes: ``OUTPUT/iteration_1/{sample,codebooks,tokens,encoder}`` and so on, each a dataset that can
be made again alone; and ``OUTPUT/codebooks``, codebooks of the last encoder's layers. Restart: what is done stays, and
training goes on from its last checkpoint.

Source: Hsu et al. 2021, HuBERT, section II-D.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any

import tyro

from pipeline.errors import SettingsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.pretraining.settings import MaskingSettings, PretrainEncoderConfig
from pipeline.pretraining.stage import TrainingReport, pretrain_encoder
from pipeline.store.storage import join
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.training.settings import OptimizerSettings, TrainingSettings
from pipeline.work.reporting import StageReport


@dataclass(frozen=True, kw_only=True)
class RunPretrainingConfig(MaskingSettings):
    """Settings of run_pretraining."""

    training: Annotated[TrainingSettings, tyro.conf.OmitArgPrefixes]
    """How long each iteration trains, and where."""
    optimizer: Annotated[OptimizerSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=OptimizerSettings)
    """How weights are updated."""
    manifest: str
    """Manifest of the audio, local or s3://."""
    output: str
    """Folder of the run, local or s3://."""
    first_encoder: str = "mfcc"
    """Encoder whose features the first iteration's tokens are made of."""
    target_layers: tuple[int, ...] = (0, 6)
    """For each iteration, the layer whose features become tokens: of the first encoder, then of the encoder that the
    iteration before has trained."""
    target_clusters: tuple[int, ...] = (100, 500)
    """For each iteration, the clusters (K) of its codebook."""
    first_steps: int | None = None
    """Steps of the first iteration; default: num_steps, as all others."""
    keep_weights: bool = False
    """Whether each iteration begins with the weights of the one before; default: with new ones, as HuBERT."""
    sample_frames: int = 1_000_000
    """Frames that each codebook is fitted on at most."""
    final_layers: tuple[int, ...] = ()
    """Layers of the last encoder that get codebooks; default: none."""
    final_clusters: tuple[int, ...] = (100, 500)
    """Clusters of these codebooks."""

    def __post_init__(self) -> None:
        self.check_masking()
        if not self.target_layers or len(self.target_layers) != len(self.target_clusters):
            raise SettingsError(
                "target_layers and target_clusters must name one layer and one K for each iteration, got "
                f"{list(self.target_layers)} and {list(self.target_clusters)}"
            )
        if self.sample_frames < 1:
            raise SettingsError(f"sample_frames must be at least 1, got {self.sample_frames}")
        # Built once for their own checks, before anything is computed.
        for number in range(len(self.target_layers)):
            _Iteration(self, number).check()


@dataclass(frozen=True, kw_only=True)
class PretrainingReport:
    """The reports of all stages of all iterations."""

    stage: str
    output: str
    stages: list[StageReport | TrainingReport]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines: list[tuple[str, str]] = []
        for report in self.stages:
            lines += [(report.stage, ""), *report.lines(), ("", "")]
        return lines[:-1]


class _Iteration:
    """The stages of one iteration."""

    def __init__(self, config: RunPretrainingConfig, number: int) -> None:
        self._config, self._number = config, number
        self._folder = join(config.output, f"iteration_{number + 1}")
        before = join(config.output, f"iteration_{number}", "encoder")
        self._encoder = before if number else config.first_encoder
        self._layer = config.target_layers[number]

    @property
    def encoder(self) -> str:
        """Folder of the encoder that this iteration trains."""
        return join(self._folder, "encoder")

    def check(self) -> None:
        """Build the configs of all stages, for their own checks."""
        self._sample(), self._fit(), self._tokenize(), self._train()

    def run(self) -> Iterator[StageReport | TrainingReport]:
        """Make tokens, and train on them."""
        yield extract_features(self._sample())
        yield fit_kmeans(self._fit())
        yield tokenize_corpus(self._tokenize())
        yield pretrain_encoder(self._train())

    def _sample(self) -> ExtractFeaturesConfig:
        return ExtractFeaturesConfig.of(
            manifest=self._config.manifest,
            encoder=self._encoder,
            layers=(self._layer,),
            sample_frames=self._config.sample_frames,
            seed=self._config.training.seed,
            runner=self._config.training.runner,
            output=join(self._folder, "sample"),
        )

    def _fit(self) -> FitKmeansConfig:
        return FitKmeansConfig.of(
            features=(join(self._folder, "sample"),),
            num_clusters=(self._config.target_clusters[self._number],),
            seed=self._config.training.seed,
            runner=self._config.training.runner,
            output=join(self._folder, "codebooks"),
        )

    def _tokenize(self) -> TokenizeCorpusConfig:
        return TokenizeCorpusConfig.of(
            manifest=self._config.manifest,
            encoder=self._encoder,
            layers=(self._layer,),
            codebooks=join(self._folder, "codebooks"),
            agreement_frames=0,
            runner=self._config.training.runner,
            output=join(self._folder, "tokens"),
        )

    def _train(self) -> PretrainEncoderConfig:
        config, first = self._config, self._number == 0
        shared = {each.name: getattr(config, each.name) for each in fields(MaskingSettings)}
        training = config.training
        if first and config.first_steps is not None:
            training = replace(training, num_steps=config.first_steps)
        if not first and config.keep_weights:
            shared["init_encoder"] = self._encoder
        return PretrainEncoderConfig(
            **shared,
            training=training,
            optimizer=config.optimizer,
            manifest=config.manifest,
            tokens=join(self._folder, "tokens"),
            output=self.encoder,
        )


def run_pretraining(config: RunPretrainingConfig) -> PretrainingReport:
    """Train an encoder in iterations, each on tokens of the features of the one before.

    Raises:
        PipelineError: What a stage raises; the stages before it stay done.
    """
    iterations = [_Iteration(config, number) for number in range(len(config.target_layers))]
    stages = [report for iteration in iterations for report in iteration.run()]
    if config.final_layers:
        sample = ExtractFeaturesConfig.of(
            manifest=config.manifest,
            encoder=iterations[-1].encoder,
            layers=config.final_layers,
            sample_frames=config.sample_frames,
            seed=config.training.seed,
            runner=config.training.runner,
            output=join(config.output, "sample"),
        )
        fit = FitKmeansConfig.of(
            features=(sample.output,),
            num_clusters=config.final_clusters,
            seed=config.training.seed,
            runner=config.training.runner,
            output=join(config.output, "codebooks"),
        )
        stages += [extract_features(sample), fit_kmeans(fit)]
    return PretrainingReport(stage="pretraining", output=config.output, stages=stages)
