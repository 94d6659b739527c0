"""What a training tells a meter is what its history and its line for people say."""

import time

import torch
from made_meters import Recorded
from made_training import NoiseRecipe, settings_of

from pipeline.store.storage import open_store
from pipeline.training.loop import Loop
from pipeline.training.progress import TOKENS, read_standing
from pipeline.training.world import World
from pipeline.work import meters


class TokenRecipe(NoiseRecipe):
    """Counts its data in tokens."""

    @property
    def unit(self):
        return TOKENS


def trained(folder, recipe):
    meter = Recorded()
    world = World(rank=0, size=1, device=torch.device("cpu"))
    given = settings_of(num_steps=6, validate_every=3, checkpoint_every=4, log_every=2)
    progress = Loop(recipe, given, open_store(str(folder)), world, meter=meter, stage="task").run()
    return meter, progress


def test_a_training_tells_what_its_history_says(tmp_path):
    began = time.time()
    meter, progress = trained(tmp_path, NoiseRecipe())
    lines = [line for line in progress.history if "loss" in line]
    assert meter.values(meters.TRAINING_STEP)[0] == 0
    assert meter.values(meters.TRAINING_STEP)[1:] == [line["step"] for line in progress.history]
    assert meter.values(meters.TRAINING_STEPS_PLANNED) == [6]
    assert meter.values(meters.TRAINING_LOSS, loss="loss") == [line["loss"] for line in lines]
    validated = [line["validation_loss"] for line in progress.history if "validation_loss" in line]
    assert meter.values(meters.TRAINING_LOSS, loss="validation_loss") == validated
    assert len(validated) == 2
    assert {tags["loss"] for metric, _, tags in meter.told if metric == meters.TRAINING_LOSS} == {
        name for line in progress.history for name in line if name.endswith("loss")
    }
    assert meter.values(meters.TRAINING_CHECKPOINTS) == [1, 1]
    times = meter.values(meters.TRAINING_LAST_CHECKPOINT)
    assert len(times) == 3
    assert began <= times[0] < times[1] < times[2] <= time.time()
    standing = read_standing(open_store(str(tmp_path)))
    # The same amount by the same clock, read a moment later.
    assert 0.5 < meter.values(meters.REAL_TIME)[-1] / standing.per_second < 2
    assert {(tags["stage"], tags["output"]) for _, _, tags in meter.told} == {("task", str(tmp_path))}
    assert meter.closed


def test_data_that_are_no_audio_have_no_times_real_time(tmp_path):
    meter, _ = trained(tmp_path, TokenRecipe())
    assert meter.values(meters.REAL_TIME) == []
    assert meter.values(meters.TRAINING_LOSS, loss="loss") != []
