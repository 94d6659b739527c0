"""Settings of a sample of exact size that cannot work are refused before Ray starts."""

import pytest

from pipeline.errors import SettingsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.run import RunPipelineConfig

COMMON = {"output": "out", "layers": (1,), "encoder": "mfcc"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_frames": 0}, "sample_frames must be at least 1, got 0"),
        ({"sample_frames": 10, "sample_fraction": 0.5}, "two sizes of one sample"),
        ({"stratify_by": "speaker"}, "give --sample-frames too"),
        ({"sample_frames": 10, "stratify_by": "corpus"}, r"columns? of the manifest \(utterance_id, uri.*got 'corpus'"),
    ],
)
def test_samples_that_contradict_themselves_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        ExtractFeaturesConfig.of(manifest="manifest", **COMMON, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stratify_by": "corpus"}, "got 'corpus'"),
        ({"stratify_by": "speaker", "all_features": True}, "all-features keeps every one"),
    ],
)
def test_a_run_refuses_them_before_its_manifest(settings, message):
    with pytest.raises(SettingsError, match=message):
        RunPipelineConfig.of(corpus="c", layout="folder", num_clusters=8, **COMMON, **settings)
