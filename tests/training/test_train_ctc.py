"""A toy recogniser: CTC on padded batches, word errors from rows of two validation sets, Adadelta, an average."""

from dataclasses import dataclass

import pytest
import torch
from made_training import assert_alike, run, settings_of, stopped, together
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from pipeline.seeds import rng
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import latest_checkpoint, published, read_checkpoint
from pipeline.training.progress import TOKENS
from pipeline.training.recipe import Judged, Phase, Recipe
from pipeline.training.settings import OptimizerSettings

LETTERS, K = 4, 8
ADADELTA = OptimizerSettings(algorithm="adadelta", lr=1.0, warmup_steps=5, decay="newbob", newbob_by="dev_loss",
                             clip_norm=5.0, weight_decay=0.0)  # fmt: skip


@dataclass(frozen=True)
class Ticket:
    side: str
    number: int
    rows: int

    @property
    def key(self):
        return f"{self.side}/{self.number}"


def utterance(side, number):
    """Give tokens (T,) and the letters (U,) that are said: each letter lasts two to four tokens."""
    chance = rng("ctc", side, number)
    letters = chance.integers(1, LETTERS + 1, size=chance.integers(1, 6))
    tokens = [2 * (letter - 1) + chance.integers(2) for letter in letters for _ in range(chance.integers(2, 5))]
    return torch.tensor(tokens), torch.from_numpy(letters)


class Source:
    """Utterances of unequal lengths, padded to the longest of their micro-batch."""

    def tickets(self, cursor):
        number = cursor or 0
        while True:
            yield Ticket("train", number, 2 + number % 3), number + 1
            number += 1

    def load(self, ticket, step):
        numbers = [1_000 * ticket.number + row for row in range(ticket.rows)]
        tokens, letters = zip(*(utterance(ticket.side, number) for number in numbers), strict=True)
        return {
            "tokens": pad_sequence(tokens, batch_first=True),
            "lengths": torch.tensor([len(each) for each in tokens]),
            "letters": pad_sequence(letters, batch_first=True),
            "said": torch.tensor([len(each) for each in letters]),
            "numbers": torch.tensor(numbers),
        }

    def validation(self):
        return {"dev": [Ticket("dev", n, 2) for n in range(5)], "other": [Ticket("other", 0, 3)]}

    def close(self):
        pass


class Recogniser(torch.nn.Module):
    """Tokens (B, T) -> log probabilities (B, T, V) of blank and letters."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(K, 16)
        self.lstm = torch.nn.LSTM(16, 16, bidirectional=True, batch_first=True)
        self.out = torch.nn.Linear(32, LETTERS + 1)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embed(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        hidden, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.out(hidden).log_softmax(dim=-1)


def edits(a, b):
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


@dataclass(frozen=True)
class CtcRecipe(Recipe):
    unit = TOKENS

    @property
    def phases(self):
        return (Phase(name="recogniser", optimizer=ADADELTA, losses={"ctc": 1.0}, ema_decay=0.9),)

    def build(self):
        return {"recogniser": Recogniser()}

    def source(self):
        return Source()

    def amount(self, batch):
        return int(batch["lengths"].sum())

    def counts(self, phase, batch):
        return {"ctc": batch["said"].sum()}

    def losses(self, phase, modules, batch):
        scores = modules["recogniser"](batch["tokens"], batch["lengths"]).transpose(0, 1)
        return {"ctc": ctc_loss(scores, batch["letters"], batch["lengths"], batch["said"], reduction="sum")}

    def judge(self, modules, batch):
        best = modules["recogniser"](batch["tokens"], batch["lengths"]).argmax(dim=-1)
        rows = []
        for row, number in enumerate(batch["numbers"].tolist()):
            path = best[row, : batch["lengths"][row]].unique_consecutive()
            heard, said = path[path > 0].tolist(), batch["letters"][row, : batch["said"][row]].tolist()
            rows.append({"utterance_id": f"u{number}", "heard": heard, "errors": edits(heard, said), "said": len(said)})
        return Judged(sums=super().judge(modules, batch).sums, rows=rows)

    def measure(self, validation, rows):
        return {"error_rate": sum(row["errors"] for row in rows) / sum(row["said"] for row in rows)}


SETTINGS = settings_of(
    num_steps=60, batches_per_step=3, validate_every=15, checkpoint_every=20, log_every=10, best_by="dev_error_rate"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ctc")
    return folder, run(CtcRecipe(), SETTINGS, folder)


def test_it_learns_to_read_and_counts_every_letter_once(trained):
    _, progress = trained
    rates = [line["dev_error_rate"] for line in progress.history if "dev_error_rate" in line]
    assert len(rates) == 4
    assert progress.best.value == min(rates) < 0.5
    losses = [line["ctc_loss"] for line in progress.history if "ctc_loss" in line]
    assert losses[-1] < 0.6 * losses[0]
    lengths = [len(utterance("train", 1_000 * n + row)[0]) for n in range(180) for row in range(2 + n % 3)]
    assert progress.amount == sum(lengths)


def test_padding_changes_no_loss():
    recipe, modules = CtcRecipe(), {"recogniser": Recogniser()}
    whole = Source().load(Ticket("dev", 0, 5), 0)
    assert len(set(whole["lengths"].tolist())) > 2
    with torch.no_grad():
        together_ = recipe.losses("recogniser", modules, whole)["ctc"]
        alone = 0
        for row in range(5):
            one = {name: value[row : row + 1] for name, value in whole.items()}
            one["tokens"], one["letters"] = one["tokens"][:, : one["lengths"]], one["letters"][:, : one["said"]]
            alone += recipe.losses("recogniser", modules, one)["ctc"]
    torch.testing.assert_close(together_, alone)


def test_rows_of_the_best_validation_are_kept_by_set_and_in_order(trained):
    folder, progress = trained
    checkpoint = published(open_store(str(folder)))
    assert [row["utterance_id"] for row in checkpoint.rows["dev"]] == [
        f"u{1_000 * n + r}" for n in range(5) for r in (0, 1)
    ]
    assert [row["utterance_id"] for row in checkpoint.rows["other"]] == ["u0", "u1", "u2"]
    assert CtcRecipe().measure("dev", checkpoint.rows["dev"])["error_rate"] == progress.best.value
    # The average of the weights hears what the rows say.
    recogniser = Recogniser().eval()
    recogniser.load_state_dict(checkpoint.weights("recogniser"))
    with torch.no_grad():
        judged = CtcRecipe().judge({"recogniser": recogniser}, Source().load(Ticket("other", 0, 3), -1))
    assert list(judged.rows) == checkpoint.rows["other"]


@pytest.mark.parametrize("step", [17, 42])
def test_a_recogniser_stopped_and_resumed_is_the_one_that_never_stopped(trained, tmp_path, monkeypatch, step):
    folder, expected = trained
    assert stopped(CtcRecipe(), SETTINGS, tmp_path, monkeypatch, step) == expected
    ends = [read_checkpoint(open_store(str(path)), 60) for path in (folder, tmp_path)]
    assert ends[0].rows == ends[1].rows
    for name, tensors in ends[0].states.items():
        assert all(torch.equal(ends[1].states[name][weight], tensor) for weight, tensor in tensors.items())


def test_two_workers_hear_what_one_hears(trained, tmp_path):
    """Rows come from both, unequal shares of them, and lie in the order of one."""
    folder, expected = trained
    assert_alike(together(CtcRecipe(), SETTINGS, tmp_path), expected, within=1e-3)
    one, two = (latest_checkpoint(open_store(str(path))).rows for path in (folder, tmp_path))
    assert one == two
    assert len(one["dev"]) == 10


def test_an_average_and_what_adadelta_remembers_are_in_the_checkpoint(trained):
    states = read_checkpoint(open_store(str(trained[0])), 60).states
    assert set(states) == {"recogniser", "ema.recogniser", "optimizer.recogniser"}
    assert {name.rsplit(".", 1)[1] for name in states["optimizer.recogniser"]} == {"step", "square_avg", "acc_delta"}
    assert states["ema.recogniser"]["n_averaged"] == 60
