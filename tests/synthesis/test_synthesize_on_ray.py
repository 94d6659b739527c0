"""synthesize on Ray: the bytes of this process."""

import numpy as np
import pytest
from made_speech import LENGTHS, config_of, write_small_vocoder, write_spoken_corpus

from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.stage import synthesize


@pytest.mark.ray
@pytest.mark.parametrize("speakers", ["none", "vector"])
def test_two_workers_on_ray_give_the_bytes_of_this_process(local_ray, tmp_path, speakers):
    write_spoken_corpus(tmp_path, speakers=("ann", "bob"))
    voices = {name: np.eye(256, dtype=np.float32)[place] for place, name in enumerate(("ann", "bob"))}
    write_small_vocoder(tmp_path / "vocoder", speaker_input=speakers, voices=voices if speakers == "vector" else None)
    manifest = str(tmp_path / "manifest")
    synthesize(config_of(tmp_path, tmp_path / "here", manifest=manifest))
    report = synthesize(config_of(tmp_path, tmp_path / "ray", manifest=manifest, runner="ray", num_workers=2))
    assert (report.rows, report.rejects, report.units_done_now) == (len(LENGTHS), 0, 3)
    here, ray = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).glob("shard-*.parquet"))}
        for name in ("here", "ray")
    )
    assert len(here) == 3
    assert ray == here
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "ray"))).rows == len(LENGTHS)
