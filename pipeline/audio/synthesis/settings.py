"""Settings of synthesize_corpus."""

from dataclasses import dataclass, field

from pipeline.audio.synthetic import SyntheticSpec
from pipeline.errors import SettingsError
from pipeline.settings import Settings
from pipeline.work.choice import RunnerSettings


@dataclass(frozen=True, kw_only=True)
class SynthesizeCorpusConfig(Settings):
    """Settings of synthesize_corpus."""

    output: str
    """Folder of the corpus, local or s3://."""
    num_utterances: int = 240
    """Utterances to speak, 2 to 6 seconds each."""
    num_voices: int = 12
    """Different voices, the corpus's speakers."""
    seed: int = 0
    """Seed of sentences, voices and styles."""
    num_workers: int | None = None
    """Processes that speak; default: one a CPU."""
    work: RunnerSettings = field(default_factory=RunnerSettings)
    """Who does the work."""

    def __post_init__(self) -> None:
        if self.num_utterances < 1:
            raise SettingsError(f"num_utterances must be at least 1, got {self.num_utterances}")

    @property
    def spec(self) -> SyntheticSpec:
        """What the corpus is made of."""
        return SyntheticSpec(num_utterances=self.num_utterances, num_voices=self.num_voices, seed=self.seed)
