"""A toy classifier with BatchNorm: newbob, an early end, the best weights, and what BatchNorm means for two workers."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from made_training import assert_alike, optimizer_of, run, settings_of, stopped, together
from torch.nn.functional import cross_entropy

from pipeline.errors import SettingsError, TrainingError
from pipeline.seeds import rng
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import latest_checkpoint, published, steps_saved
from pipeline.training.loop import Loop
from pipeline.training.progress import UTTERANCES
from pipeline.training.recipe import Judged, Phase, Recipe, Sums
from pipeline.training.settings import OptimizerSettings
from pipeline.training.world import World

WIDTH, CLASSES, ROWS = 8, 3, 6
NEWBOB = optimizer_of(algorithm="adam", decay="newbob", decay_factor=0.5, warmup_steps=0, lr=0.05)


@dataclass(frozen=True)
class Ticket:
    number: int

    @property
    def key(self):
        return f"class/{self.number}"


class Source:
    """Clusters that overlap: no classifier is right about all of them."""

    def tickets(self, cursor):
        number = cursor or 0
        while True:
            yield Ticket(number), number + 1
            number += 1

    def load(self, ticket, step):
        chance = rng("class", ticket.key)
        labels = chance.integers(CLASSES, size=ROWS)
        x = 3 + 2 * chance.standard_normal((ROWS, WIDTH)) + np.eye(WIDTH)[labels] * 2
        return {"x": torch.from_numpy(x).float(), "labels": torch.from_numpy(labels)}

    def validation(self):
        return {"validation": [Ticket(-number) for number in range(1, 6)]}

    def close(self):
        pass


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.out = torch.nn.BatchNorm1d(WIDTH), torch.nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.out(self.norm(x))


@dataclass(frozen=True)
class ClassRecipe(Recipe):
    optimizer: OptimizerSettings = NEWBOB
    frozen: bool = False

    unit = UTTERANCES

    @property
    def phases(self):
        return (Phase(name="classifier", optimizer=self.optimizer, losses={"class": 1.0}),)

    def build(self):
        classifier = Classifier()
        return {"classifier": classifier.requires_grad_(not self.frozen)}

    def source(self):
        return Source()

    def amount(self, batch):
        return len(batch["x"])

    def counts(self, phase, batch):
        return {"class": torch.tensor(len(batch["x"]))}

    def losses(self, phase, modules, batch):
        logits = modules["classifier"](batch["x"])
        right = (logits.argmax(dim=1) == batch["labels"]).sum()
        loss = cross_entropy(logits, batch["labels"], reduction="sum")
        return {"class": loss, "accuracy": Sums(right, torch.tensor(len(logits)))}

    def judge(self, modules, batch):
        guess = modules["classifier"](batch["x"]).argmax(dim=1)
        rows = [{"label": int(a), "guess": int(b)} for a, b in zip(batch["labels"], guess, strict=True)]
        return Judged(sums=super().judge(modules, batch).sums, rows=rows)

    def measure(self, validation, rows):
        """Unweighted average recall, which no sum over micro-batches gives."""
        recalls = [[row["guess"] == row["label"] for row in rows if row["label"] == c] for c in range(CLASSES)]
        return {"recall": float(np.mean([np.mean(each) for each in recalls]))}


SETTINGS = settings_of(
    num_steps=200, validate_every=3, checkpoint_every=50, log_every=3,
    best_by="validation_recall", best_order="max", patience=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    return folder, run(ClassRecipe(), SETTINGS, folder)


def column(progress, name):
    return {line["step"]: line[name] for line in progress.history if name in line}


def test_training_ends_after_so_many_validations_without_a_better_one(trained):
    folder, progress = trained
    recalls = column(progress, "validation_recall")
    best = max(recalls, key=recalls.get)
    assert progress.ended == "patience"
    assert progress.step == max(recalls) == best + 5 * 3 < 200
    assert (progress.best.step, progress.best.value) == (best, recalls[best])
    store = open_store(str(folder))
    assert published(store).progress.step == best
    assert {best, progress.step} <= set(steps_saved(store))
    assert run(ClassRecipe(), SETTINGS, folder) == progress


def test_what_is_published_are_the_weights_of_the_best_and_their_rows(trained):
    checkpoint = published(open_store(str(trained[0])))
    classifier, source = Classifier().eval(), Source()
    classifier.load_state_dict(checkpoint.weights("classifier"))
    judged = [
        ClassRecipe().judge({"classifier": classifier}, source.load(t, -1)) for t in source.validation()["validation"]
    ]
    rows = [row for each in judged for row in each.rows]
    assert checkpoint.rows == {"validation": rows}
    assert ClassRecipe().measure("validation", rows)["recall"] == trained[1].best.value


def test_newbob_halves_the_rate_where_the_validation_before_was_not_better(trained):
    _, progress = trained
    losses, rates = column(progress, "validation_loss"), column(progress, "lr")
    rate, last, halved = 0.05, None, 0
    for step, loss in losses.items():
        assert rates[step] == pytest.approx(rate)
        if last is not None and (last - loss) / last < 0.0025:
            rate, halved = rate / 2, halved + 1
        last = loss
    assert halved > 2


@pytest.mark.parametrize("step", [4, 10, 13])
def test_a_run_stopped_and_resumed_remembers_rate_best_and_patience(trained, tmp_path, monkeypatch, step):
    settings = replace(SETTINGS, checkpoint_every=4)
    assert stopped(ClassRecipe(), settings, tmp_path, monkeypatch, step) == run(
        ClassRecipe(), settings, tmp_path / "whole"
    )
    ends = [latest_checkpoint(open_store(str(path))).states for path in (tmp_path, tmp_path / "whole")]
    for name, tensors in ends[0].items():
        assert all(torch.equal(ends[1][name][weight], tensor) for weight, tensor in tensors.items())


CONSTANT = ClassRecipe(optimizer=optimizer_of(decay="constant", warmup_steps=0))
SHORT = settings_of(num_steps=6, checkpoint_every=6, batches_per_step=4)


def test_steps_with_batchnorm_do_not_depend_on_the_workers(tmp_path):
    """Its statistics are of a micro-batch, and micro-batches are the same for any number of workers."""
    expected = run(CONSTANT, SHORT, tmp_path / "one")
    assert_alike(together(CONSTANT, SHORT, tmp_path / "two"), expected)
    one, two = (latest_checkpoint(open_store(str(tmp_path / name))).states["classifier"] for name in ("one", "two"))
    for name in ("norm.weight", "norm.bias", "out.weight", "out.bias"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_running_statistics_of_a_checkpoint_are_the_mean_over_workers(tmp_path):
    """By hand: worker r has seen every second micro-batch, from r on."""
    together(CONSTANT, replace(SHORT, checkpoint_every=3), tmp_path)
    means = [torch.zeros(WIDTH), torch.zeros(WIDTH)]
    for step in range(6):
        for rank in range(2):
            for place in (rank, rank + 2):
                seen = Source().load(Ticket(4 * step + place), step)["x"].mean(dim=0)
                means[rank] = 0.9 * means[rank] + 0.1 * seen
        if step in (2, 5):
            means = [(means[0] + means[1]) / 2] * 2
    found = latest_checkpoint(open_store(str(tmp_path))).states["classifier"]
    torch.testing.assert_close(found["norm.running_mean"], means[0], rtol=1e-5, atol=1e-6)
    assert found["norm.num_batches_tracked"] == 12


def test_a_run_ends_when_its_time_is_up_and_is_published_as_it_is(tmp_path):
    settings = settings_of(num_steps=100_000, checkpoint_every=100_000, log_every=2, max_hours=1e-9, validate_every=50)
    progress = run(CONSTANT, settings, tmp_path)
    assert (progress.ended, progress.step) == ("time", 2)
    assert "validation_loss" in progress.history[-1]
    assert published(open_store(str(tmp_path))).progress == progress
    assert run(CONSTANT, settings, tmp_path) == progress


def test_time_of_all_starts_counts(tmp_path):
    settings = settings_of(num_steps=4, checkpoint_every=2)
    first = run(CONSTANT, replace(settings, num_steps=2), tmp_path)
    second = run(CONSTANT, settings, tmp_path)
    assert second.step == 4
    assert second.seconds > first.seconds > 0


def test_a_metric_that_no_validation_has_is_named_with_those_there_are(tmp_path):
    settings = settings_of(validate_every=2, best_by="validation_wer")
    with pytest.raises(
        TrainingError, match="best_by validation_wer is no metric .* validation_loss, validation_recall"
    ):
        run(CONSTANT, settings, tmp_path)


def loop(recipe, folder, **changes):
    world = World(rank=0, size=1, device=torch.device("cpu"))
    return Loop(recipe, settings_of(**changes), open_store(str(folder)), world)


def test_phases_that_cannot_be_trained_are_refused(tmp_path):
    phase = CONSTANT.phases[0]

    class Twice(ClassRecipe):
        phases = (phase, phase)

    class Elsewhere(ClassRecipe):
        phases = (replace(phase, module="absent"),)

    class Late(ClassRecipe):
        phases = (replace(phase, begins=2),)

    for recipe, said in (
        (Twice(), "must differ in their name"),
        (Elsewhere(), "train absent, but build\\(\\) gave classifier"),
        (Late(), "no phase begins at step 0"),
        (replace(CONSTANT, frozen=True), "classifier is frozen"),
        (ClassRecipe(), "newbob waits for validations"),
    ):
        with pytest.raises(SettingsError, match=said):
            loop(recipe, tmp_path)
    for changes, said in (
        ({"losses": {}}, "has no losses"),
        ({"begins": -1}, "begin at step 0 or later"),
        ({"loss_begins": {"other": 3}}, "lets other begin"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ):
        with pytest.raises(SettingsError, match=said):
            replace(phase, **changes)
