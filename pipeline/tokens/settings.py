"""Settings of tokenize_corpus."""

from dataclasses import dataclass, field
from typing import Self

from pipeline.errors import SettingsError
from pipeline.features.encoders.shipped import is_shipped
from pipeline.features.passes.settings import EncodingSettings
from pipeline.kmeans.search.engines import EngineSettings
from pipeline.settings import Settings
from pipeline.store.storage import located
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class TokenEncodingSettings(EncodingSettings):
    """The encoder's pass over a manifest: the codebooks name its layers, and tokens of features need none."""

    encoder: str = ""
    """Encoder, needed with --manifest: a Hugging Face name, a local folder, or s3:// folder in Hugging Face form; or
    encoder-small, the one that ships."""
    layers: tuple[int, ...] = ()
    """Layers to tokenise; default: every layer that has a codebook."""


@dataclass(frozen=True, kw_only=True)
class TokenizeCorpusConfig(Settings):
    """Settings of tokenize_corpus."""

    codebooks: str
    """Codebooks dataset, local or s3://; or encoder-small, those that ship with that encoder."""
    output: str
    """Folder of the tokens dataset, local or s3://."""
    manifest: str | None = None
    """Manifest dataset to tokenise from audio, local or s3://."""
    features: str | None = None
    """Features dataset with every frame, to tokenise from instead of audio; the tokens are the same. With --manifest,
    the one that it was made from: the dataset is that of the audio, and nothing is encoded twice."""
    encoding: TokenEncodingSettings = field(default_factory=TokenEncodingSettings)
    """The encoder's pass over the manifest."""
    num_clusters: int | None = None
    """Take the codebooks of this many clusters (K); needed where a layer has codebooks of several."""
    search: EngineSettings = field(default_factory=EngineSettings)
    """How nearest centroids are searched for."""
    agreement_frames: int = 2_000
    """Frames a layer that are encoded again alone in float32 to report how exact tokens are, as far as
    agreement_share allows; 0: none."""
    agreement_share: float = 0.02
    """Share of the encoding time that this may take, 0 to 1, by the seconds of audio."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if self.manifest is None and self.features is None:
            raise SettingsError("give --manifest (with --encoder), --features, or both")
        if self.manifest is not None and not self.encoding.encoder:
            raise SettingsError("--manifest needs --encoder, the one whose features the codebooks were fitted on")
        if self.agreement_frames < 0:
            raise SettingsError(f"agreement_frames must be at least 0, got {self.agreement_frames}")
        if not 0 <= self.agreement_share <= 1:
            raise SettingsError(f"agreement_share must be in [0, 1], got {self.agreement_share:g}")

    def located(self) -> Self:
        """Give the same settings with absolute local paths: workers may have another working directory."""
        books = () if is_shipped(self.codebooks) else ("codebooks",)
        return located(self, "manifest", "features", "output", *books, *self.encoding.paths())
