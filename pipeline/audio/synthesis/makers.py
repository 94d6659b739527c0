"""What a worker of synthesize_corpus does: it speaks one piece of the corpus after the other."""

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import soundfile

from pipeline.audio.synthesis.settings import SynthesizeCorpusConfig
from pipeline.audio.synthetic import LANGUAGE, plan_utterance, render
from pipeline.store.dataset import Output, Plan, parquet_bytes
from pipeline.store.storage import open_store
from pipeline.work.units import Utterance

PIECE = 25

COLUMNS = pa.schema(
    [
        pa.field(name, pa.string(), nullable=False)
        for name in ("utterance_id", "uri", "text", "speaker", "emotion", "language", "split")
    ]
)


class Speaker:
    """Speaks one piece of the corpus after the other."""

    stage = "synthetic"

    def __init__(self, config: SynthesizeCorpusConfig, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._store = open_store(config.output)

    def numerics(self) -> Mapping[str, str]:
        """One espeak-ng release speaks the same everywhere."""
        return {}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Speak the utterances of a piece; ``utterances`` is empty, they follow from the settings."""
        begin = int(unit.removeprefix("shard-")) * PIECE
        rows, seconds = [], 0.0
        for index in range(begin, min(begin + PIECE, self._config.num_utterances)):
            planned = plan_utterance(self._config.spec, index)
            samples, sample_rate = render(planned)
            name = f"audio/{planned.utterance_id}.wav"
            recording = io.BytesIO()
            soundfile.write(recording, samples, sample_rate, format="WAV", subtype="PCM_16")
            self._store.write(name, recording.getvalue())
            seconds += len(samples) / sample_rate
            labels = {field: getattr(planned, field) for field in ("text", "speaker", "emotion", "split")}
            rows.append({"utterance_id": planned.utterance_id, "uri": name, "language": LANGUAGE, **labels})
        table = pa.Table.from_pylist(rows, schema=COLUMNS)
        return Output(data=parquet_bytes(table, self._plan.lineage), rows=len(rows), seconds=seconds)
