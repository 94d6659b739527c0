"""Networks of the tasks: gradients everywhere, nothing heard of padding and neighbours, and each learns."""

import pytest
import torch

from pipeline.tasks.asr.criterion import ctc_losses
from pipeline.tasks.asr.model import AsrModel
from pipeline.tasks.asr.settings import AsrSettings
from pipeline.tasks.blocks.conformer import WindowedAttention
from pipeline.tasks.blocks.settings import ConformerSettings, EcapaSettings
from pipeline.tasks.er.criterion import class_losses
from pipeline.tasks.er.metrics import measure, rows
from pipeline.tasks.er.model import ErModel
from pipeline.tasks.se.model import SeModel
from pipeline.tasks.sid.criterion import margin_losses
from pipeline.tasks.sid.model import SidModel

DIM, CLASSES = 12, 4
LENGTHS = torch.tensor([20, 13, 5, 1])
SMALL = EcapaSettings(ecapa_channels=32, ecapa_pooled=48, ecapa_attention=8, embedding_width=16)
CONFORMER = ConformerSettings(
    conformer_layers=2, conformer_width=16, conformer_heads=2, conformer_ffn=24, conformer_kernel=5, attention_frames=6
)
MAKERS = {
    "asr": lambda: AsrModel(DIM, CLASSES, AsrSettings(lstm_width=16)),
    "sid": lambda: SidModel(DIM, CLASSES, SMALL),
    "er": lambda: ErModel(DIM, CLASSES, SMALL),
    "se": lambda: SeModel(DIM, (CLASSES, CLASSES + 3), CONFORMER),
}


def model_of(task):
    torch.manual_seed(0)
    return MAKERS[task]()


def mask_of(lengths, num_frames):
    return torch.arange(num_frames) < lengths[:, None]


def outputs(model, fused, lengths):
    """Give what is said of each row, within its own frames."""
    found = model(fused, mask_of(lengths, fused.shape[1]))
    if isinstance(model, SidModel):
        return [torch.cat([*pair]) for pair in zip(found.embeddings, found.cosines, strict=True)]
    if isinstance(model, SeModel):
        found = torch.cat(found, dim=-1)
    if isinstance(model, AsrModel | SeModel):
        return [row[:length] for row, length in zip(found, lengths, strict=True)]
    return list(found)


@pytest.mark.parametrize("task", MAKERS)
def test_gradients_reach_every_parameter(task):
    model = model_of(task)
    found = outputs(model, torch.randn(4, 20, DIM), LENGTHS)
    sum((torch.randn_like(row) * row).sum() for row in found).backward()
    absent = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert absent == []


@pytest.mark.parametrize("task", MAKERS)
def test_padding_and_neighbours_change_no_output(task):
    model = model_of(task)
    fused = torch.randn(4, 20, DIM)
    outputs(model, fused, LENGTHS)  # moves the running statistics
    model.eval()
    alone = [outputs(model, row[None, :length], length[None])[0] for row, length in zip(fused, LENGTHS, strict=True)]
    padded = torch.full((4, 31, DIM), 1e4)
    padded[:, :20] = torch.where(mask_of(LENGTHS, 20)[..., None], fused, 1e4)
    together = outputs(model, padded, LENGTHS)
    worst = max(float((one - other).detach().abs().max()) for one, other in zip(alone, together, strict=True))
    print(f"{task}: max abs error of rows alone and padded among others: {worst:.1e}")
    assert worst < 1e-5


@pytest.mark.parametrize("task", MAKERS)
def test_what_lies_in_padding_changes_no_gradient_in_training(task):
    def gradients(fill):
        model = model_of(task)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout | WindowedAttention):
                setattr(part, "dropout" if isinstance(part, WindowedAttention) else "p", 0.0)
        fused = torch.randn(4, 20, DIM, generator=torch.Generator().manual_seed(1))
        fused = torch.where(mask_of(LENGTHS, 20)[..., None], fused, fill)
        sum(row.square().sum() for row in outputs(model, fused, LENGTHS)).backward()
        return [weights.grad for weights in model.parameters()]

    for one, other in zip(gradients(0.0), gradients(1e4), strict=True):
        assert torch.equal(one, other)


def sequences(seed, targets):
    """Make rows of several lengths whose frames lean towards a direction of their class."""
    torch.manual_seed(seed)
    lengths = torch.randint(10, 25, (len(targets),))
    directions = torch.eye(DIM)[:CLASSES]
    return torch.randn(len(targets), 25, DIM) + 1.5 * directions[targets][:, None], lengths


def train(model, loss_of, steps=60, lr=3e-3):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("task", ["sid", "er"])
def test_classes_are_learned_and_recognised_in_new_utterances(task):
    targets = torch.arange(32) % CLASSES
    fused, lengths = sequences(1, targets)
    mask = mask_of(lengths, 25)

    def loss_of(model):
        if task == "sid":
            return margin_losses(model(fused, mask).cosines, targets, margin=0.2, scale=30).mean()
        return class_losses(model(fused, mask), targets, None).mean()

    model = model_of(task)
    loss = train(model, loss_of)
    fresh, lengths = sequences(2, targets)
    with torch.no_grad():
        found = model.eval()(fresh, mask_of(lengths, 25))
    scores = found.cosines if task == "sid" else found
    share = measure(rows(scores, targets, "abcd"))["accuracy"]
    print(f"{task}: loss {loss:.4f}, accuracy on new utterances {share:.2f}")
    assert loss < 0.1
    assert share > 0.9


def test_transcripts_are_learned():
    torch.manual_seed(0)
    targets = torch.randint(1, CLASSES, (16, 5))
    lengths = torch.randint(20, 25, (16,))
    frames = targets.repeat_interleave(4, dim=1)
    frames[:, ::4] = 0
    fused = torch.zeros(16, 25, DIM)
    fused[:, :20] = 2 * torch.eye(DIM)[frames]
    fused += 0.3 * torch.randn_like(fused)
    ends = torch.full((16,), 5)

    def loss_of(model):
        return ctc_losses(model(fused, mask_of(lengths, 25)), lengths, targets, ends).mean()

    model = AsrModel(DIM, CLASSES, AsrSettings(lstm_width=32, dropout=0.0))
    loss = train(model, loss_of, steps=100, lr=1e-2)
    print(f"asr: loss {loss:.4f} per utterance of 5 symbols")
    assert loss < 0.1
