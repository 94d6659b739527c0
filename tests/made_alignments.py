"""Small corpora of silence and noise, times of them as other tools write them, and a table of times read back."""

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import soundfile
from made_mixtures import manifest_of

from pipeline.audio.alignment import Alignment
from pipeline.audio.alignments.settings import ConvertAlignmentsConfig
from pipeline.audio.alignments.stage import convert_alignments
from pipeline.export.ids.interleaving import words_of

RATE = 8000
SECONDS = 2.0


def write_audio(folder, names, seconds=SECONDS, channels=1):
    for name in names:
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = 0.1 * np.random.default_rng(1).standard_normal((int(RATE * seconds), channels))
        soundfile.write(path, waveform, RATE)
    return folder


def convert(manifest, alignments, form, output, **settings):
    given = {"manifest": str(manifest), "alignments": str(alignments), "format": form, "output": str(output)}
    return convert_alignments(ConvertAlignmentsConfig.of(**given | settings))


def rows_of(output):
    table = pq.read_table(output) if str(output).endswith(".parquet") else pacsv.read_csv(output)
    return [tuple(row.values()) for row in table.to_pylist()]


def check(output, expected):
    """Read a table as the cards and the export do, and compare it with the words of each utterance."""
    alignment = Alignment(str(output))
    values = alignment.values()
    frames = alignment.intervals(list(expected), values)
    words = words_of(alignment.batches(), list(expected))
    for utterance_id, said in expected.items():
        starts, ends, labels = zip(*said, strict=True)
        assert words[utterance_id].labels == labels
        assert [values.values[label] for label in frames[utterance_id].labels.tolist()] == list(labels)
        for found in (words[utterance_id], frames[utterance_id]):
            np.testing.assert_allclose(found.starts, starts, atol=1e-6, rtol=0)
            np.testing.assert_allclose(found.ends, ends, atol=1e-6, rtol=0)
    assert set(words) == set(expected)


def write_ctm(path, said, channel="1"):
    lines = [f"{name} {channel} {a:.6f} {b - a:.6f} {label}\n" for name in said for a, b, label in said[name]]
    path.write_text(";; times\n" + "".join(lines))
    return path


def write_segmented(folder):
    """Write two long recordings of two channels, and a manifest of segments whose ids say nothing of them."""
    write_audio(folder / "audio", ("talk/r1", "talk/r2"), seconds=10, channels=2)
    lines = ["recording,start,end,id", "talk/r1,4,7,aa", "talk/r1,1,3,zz", "talk/r2,2,5,mm"]
    (folder / "segments.csv").write_text("\n".join(lines) + "\n")
    settings = {"layout": "folder", "segments": str(folder / "segments.csv")}
    return manifest_of(folder / "audio", folder / "manifest", **settings)


def lhotse_set(segments):
    """Write supervisions with words and phones on the clock of their recordings, as lhotse has them."""
    supervision = pytest.importorskip("lhotse.supervision")
    made = []
    for name, (recording, start, end, said) in segments.items():
        items = [supervision.AlignmentItem(label, a, round(b - a, 6)) for a, b, label in said]
        made.append(
            supervision.SupervisionSegment(
                id=name,
                recording_id=recording,
                start=start,
                duration=end - start,
                alignment={"word": items, "phone": [supervision.AlignmentItem("AH", start, 0.25)]},
            )
        )
    return supervision.SupervisionSet.from_segments(made)
