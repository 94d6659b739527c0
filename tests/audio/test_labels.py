"""Values of labels become numbers: places in the sorted list of all values."""

import numpy as np
from made_tokens import speak, write_manifest

from pipeline.audio.labels import Values, manifest_values
from pipeline.audio.loading import Manifest
from pipeline.passed_over import PassedOver


def test_drawn_labels_are_as_frequent_as_the_true_ones():
    values = Values.of("speaker", {"x": 30, "y": 10})
    drawn = [values.drawn(f"u{number}") for number in range(4000)]
    assert drawn == [values.drawn(f"u{number}") for number in range(4000)]
    assert 0.22 < np.mean(drawn) < 0.28
    assert values.number(None) == values.number("z") == -1


def test_utterances_of_other_splits_are_counted(tmp_path):
    made = speak(tmp_path / "audio", [0.5] * 5)
    splits = dict(zip(("u000", "u001", "u002", "u003"), ("train", "dev", "dev", "test"), strict=True))
    write_manifest(tmp_path / "m", made, labels={name: {"split": split} for name, split in splits.items()})
    manifest, left_out, nothing = Manifest(str(tmp_path / "m")), PassedOver(), PassedOver()
    manifest_values(manifest, ["split"], ["train", "test"], left_out)
    manifest_values(manifest, ["split"], [], nothing)
    assert left_out.to_json()["other_splits"]["names"] == {"None": 1, "dev": 2}
    assert not nothing
