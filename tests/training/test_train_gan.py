"""A toy vocoder: a generator and a discriminator on the room, with a warm-up on the spectrum alone, as HiFi-GAN has.

The whole recipe is here: it is also the example of one.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from made_training import assert_alike, run, settings_of, stopped, together
from torch.nn.functional import l1_loss, leaky_relu, mse_loss

from pipeline.seeds import rng, torch_seed
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import published, read_checkpoint, steps_saved
from pipeline.training.progress import UTTERANCES
from pipeline.training.recipe import Audio, Figure, Judged, Phase, Recipe, Sums
from pipeline.training.settings import OptimizerSettings

K, FRAMES, HOP = 5, 6, 8
OPTIMIZER = OptimizerSettings(
    lr=2e-3,
    beta1=0.8,
    beta2=0.99,
    weight_decay=0.0,
    warmup_steps=0,
    decay="exponential",
    decay_factor=0.9,
    decay_steps=4,
)
WEIGHTS = {"mel": 4.5, "adversarial": 1.0, "features": 2.0}
BEGINS = 3


class Generator(torch.nn.Module):
    """Tokens (B, T) -> waveform (B, T * HOP)."""

    def __init__(self):
        super().__init__()
        self.embed, self.out = torch.nn.Embedding(K, 12), torch.nn.Linear(12, HOP)

    def forward(self, tokens):
        return torch.tanh(self.out(self.embed(tokens))).flatten(1)


class Discriminator(torch.nn.Module):
    """Waveform -> scores and the features of its layers."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Conv1d(1, 6, 5, 2), torch.nn.Conv1d(6, 6, 5, 2)])
        self.post = torch.nn.Conv1d(6, 1, 3)

    def forward(self, waveform):
        hidden, features = waveform[:, None], []
        for layer in self.layers:
            hidden = leaky_relu(layer(hidden), 0.1)
            features.append(hidden)
        return self.post(hidden).flatten(1), features


@dataclass(frozen=True)
class Ticket:
    number: int

    @property
    def key(self):
        return f"gan/{self.number}"


class Source:
    """Each token sounds as a wave of its own."""

    def tickets(self, cursor):
        number = cursor or 0
        while True:
            yield Ticket(number), number + 1
            number += 1

    def load(self, ticket, step):
        chance = rng("gan", ticket.key, step)
        tokens = chance.integers(K, size=(4, FRAMES))
        phase = np.arange(FRAMES * HOP) * np.repeat(tokens + 1, HOP, axis=1) / 6
        noise = 0.05 * chance.standard_normal(phase.shape)
        return {"tokens": torch.from_numpy(tokens), "real": torch.from_numpy(0.7 * np.sin(phase) + noise).float()}

    def validation(self):
        return {"known": [Ticket(-1), Ticket(-2)], "far": [Ticket(-3)]}

    def close(self):
        pass


@dataclass(frozen=True)
class GanRecipe(Recipe):
    """Least squares GAN with feature matching; the discriminator begins late, and its losses with it."""

    ema_decay: float | None = 0.8

    unit = UTTERANCES

    @property
    def phases(self):
        late = dict.fromkeys(("adversarial", "features"), BEGINS)
        generator = {"losses": WEIGHTS, "loss_begins": late, "ema_decay": self.ema_decay}
        return (
            Phase(name="discriminator", optimizer=OPTIMIZER, losses={"real": 1.0, "fake": 1.0}, begins=BEGINS),
            Phase(name="generator", optimizer=OPTIMIZER, **generator),
        )

    def build(self):
        return {"generator": Generator(), "discriminator": Discriminator()}

    def source(self):
        return Source()

    def amount(self, batch):
        return len(batch["tokens"])

    def counts(self, phase, batch):
        rows = torch.tensor(len(batch["tokens"]))
        return dict.fromkeys((*WEIGHTS, "real", "fake"), rows)

    def losses(self, phase, modules, batch):
        rows, real = len(batch["tokens"]), batch["real"]
        fake = modules["generator"](batch["tokens"])
        fake_score, fake_features = modules["discriminator"](fake)
        real_score, real_features = modules["discriminator"](real)
        ones, zeros = torch.ones_like(real_score), torch.zeros_like(real_score)
        if phase == "discriminator":
            assert not fake.requires_grad
            return {"real": rows * mse_loss(real_score, ones), "fake": rows * mse_loss(fake_score, zeros)}
        matched = sum(l1_loss(a, b.detach()) for a, b in zip(fake_features, real_features, strict=True))
        found = {"mel": l1_loss(fake, real), "adversarial": mse_loss(fake_score, ones), "features": matched}
        return {name: rows * loss for name, loss in found.items()}

    def judge(self, modules, batch):
        loss = l1_loss(modules["generator"](batch["tokens"]), batch["real"])
        rows = torch.tensor(len(batch["tokens"]))
        return Judged(sums={"mel": Sums(rows * loss, rows)})

    def show(self, modules, batch):
        import matplotlib.figure

        figure = matplotlib.figure.Figure()
        waveform = modules["generator"](batch["tokens"])[0].numpy()
        figure.subplots().plot(waveform)
        return [Audio(name="first", waveform=waveform, sample_rate=16_000), Figure(name="first", figure=figure)]


SETTINGS = settings_of(num_steps=12, validate_every=3, checkpoint_every=4, best_by="known_mel", keep_checkpoints=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    return folder, run(GanRecipe(), SETTINGS, folder)


def by_hand(steps):
    """Train as the books have it: the discriminator on what is detached, then the generator through it."""
    torch.manual_seed(torch_seed(0, "weights"))
    recipe, source = GanRecipe(), Source()
    modules = recipe.build()
    optimizers = {
        name: torch.optim.AdamW(module.parameters(), lr=2e-3, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.0)
        for name, module in modules.items()
    }
    for step in range(steps):
        batches = [source.load(Ticket(2 * step + n), step) for n in range(2)]
        for name in ("discriminator", "generator"):
            if step < BEGINS and name == "discriminator":
                continue
            optimizers[name].param_groups[0]["lr"] = 2e-3 * 0.9 ** (step // 4)
            optimizers[name].zero_grad()
            for batch in batches:
                tokens, real = batch["tokens"], batch["real"]
                fake = modules["generator"](tokens)
                if name == "discriminator":
                    score, truth = (modules[name](given)[0] for given in (fake.detach(), real))
                    loss = mse_loss(truth, torch.ones_like(truth)) + mse_loss(score, torch.zeros_like(score))
                else:
                    score, features = modules["discriminator"](fake)
                    with torch.no_grad():
                        wanted = modules["discriminator"](real)[1]
                    loss = 4.5 * l1_loss(fake, real)
                    if step >= BEGINS:
                        loss = loss + mse_loss(score, torch.ones_like(score))
                        loss = loss + 2 * sum(l1_loss(a, b) for a, b in zip(features, wanted, strict=True))
                (loss / 2).backward()
            torch.nn.utils.clip_grad_norm_(modules[name].parameters(), 1.0)
            optimizers[name].step()
    return modules


def test_each_network_is_updated_as_by_hand_with_the_other_frozen(trained):
    folder, progress = trained
    found = read_checkpoint(open_store(str(folder)), 12).states
    for name, module in by_hand(12).items():
        for weight, tensor in module.state_dict().items():
            torch.testing.assert_close(found[name][weight], tensor, rtol=1e-4, atol=1e-6)
    assert progress.amount == 12 * 2 * 4


def test_a_phase_and_losses_that_begin_late_are_not_there_before(trained):
    _, progress = trained
    lines = [line for line in progress.history if "generator_loss" in line]
    assert ["discriminator_loss" in line for line in lines] == [False] * BEGINS + [True] * 9
    for line in lines[:BEGINS]:
        assert line["generator_loss"] == pytest.approx(4.5 * line["generator_mel_loss"])
    for line in lines[BEGINS:]:
        parts = [weight * line[f"generator_{name}_loss"] for name, weight in WEIGHTS.items()]
        assert line["generator_loss"] == pytest.approx(sum(parts))
        assert line["discriminator_lr"] == line["generator_lr"]
    assert lines[-1]["generator_mel_loss"] < lines[0]["generator_mel_loss"]


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_gan_stopped_and_resumed_is_the_one_that_never_stopped(trained, tmp_path, monkeypatch, step):
    """Before the discriminator has begun too: its optimizer has no state then."""
    folder, expected = trained
    assert stopped(GanRecipe(), SETTINGS, tmp_path, monkeypatch, step) == expected
    ends = [read_checkpoint(open_store(str(path)), 12).states for path in (folder, tmp_path)]
    assert ends[0].keys() == ends[1].keys()
    for name, tensors in ends[0].items():
        assert all(torch.equal(ends[1][name][weight], tensor) for weight, tensor in tensors.items())


def test_two_workers_train_the_gan_of_one(trained, tmp_path):
    assert_alike(together(GanRecipe(), SETTINGS, tmp_path), trained[1], within=1e-4)


def test_the_average_of_the_generator_is_kept_validated_and_published(trained):
    folder, progress = trained
    store = open_store(str(folder))
    names = {"generator", "discriminator", "ema.generator", "optimizer.generator", "optimizer.discriminator"}
    assert set(read_checkpoint(store, 12).states) == names
    checkpoint = published(store)
    recipe, generator = GanRecipe(), Generator().eval()
    generator.load_state_dict(checkpoint.weights("generator"))
    assert not torch.equal(checkpoint.weights("generator")["out.bias"], checkpoint.states["generator"]["out.bias"])
    for name, tickets in Source().validation().items():
        batches = [Source().load(ticket, -1) for ticket in tickets]
        with torch.no_grad():
            sums = [recipe.judge({"generator": generator}, batch).sums["mel"] for batch in batches]
        line = next(x for x in progress.history if f"{name}_mel" in x and x["step"] == checkpoint.progress.step)
        assert line[f"{name}_mel"] == pytest.approx(float(sum(s.value for s in sums) / sum(s.count for s in sums)))


def test_an_average_is_that_of_the_weights_after_each_step(tmp_path):
    run(GanRecipe(), settings_of(num_steps=6, checkpoint_every=1, keep_checkpoints=9), tmp_path)
    states = [read_checkpoint(open_store(str(tmp_path)), step).states for step in range(1, 7)]
    average = states[0]["generator"]["out.weight"].double()
    for updates, each in enumerate(states[1:], start=1):
        decay = min(0.8, (1 + updates) / (10 + updates))
        average = decay * average + (1 - decay) * each["generator"]["out.weight"].double()
    torch.testing.assert_close(states[-1]["ema.generator"]["module.out.weight"].double(), average, rtol=1e-5, atol=1e-7)


def test_the_best_step_by_one_of_the_sets_is_kept_beside_the_last(trained):
    folder, progress = trained
    found = {x["step"]: x["known_mel"] for x in progress.history if "known_mel" in x}
    assert sorted(found) == [3, 6, 9, 12]
    assert progress.best.step == min(found, key=found.get)
    assert progress.best.value == min(found.values())
    assert set(steps_saved(open_store(str(folder)))) == {progress.best.step, 12}


def test_tensorboard_has_scalars_by_set_and_what_is_shown_of_each(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "tensorboard"), size_guidance={"audio": 0, "images": 0}).Reload()
    assert {"known/mel", "far/mel", "generator_mel_loss", "discriminator_loss"} <= set(events.Tags()["scalars"])
    assert events.Tags()["audio"] == events.Tags()["images"] == ["known/first", "far/first"]
    assert [event.step for event in events.Audio("far/first")] == [3, 6, 9, 12]
