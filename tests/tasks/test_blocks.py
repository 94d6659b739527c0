"""Blocks of task networks: statistics without padding, and the sizes that were published."""

import pytest
import torch
from torch.testing import assert_close

from pipeline.errors import SettingsError
from pipeline.tasks.blocks.ecapa import Ecapa, StatisticsPooling
from pipeline.tasks.blocks.normalization import MaskedBatchNorm
from pipeline.tasks.blocks.settings import EcapaSettings

MASK = torch.arange(7) < torch.tensor([7, 4, 1])[:, None]


def test_masked_statistics_are_those_of_the_real_frames_alone():
    torch.manual_seed(0)
    values = torch.randn(3, 5, 7)
    ours, torchs = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    real = values.transpose(1, 2)[MASK]
    found = ours(values.masked_fill(~MASK[:, None], 1e6), MASK)
    assert_close(found.transpose(1, 2)[MASK], torchs(real))
    assert not found.transpose(1, 2)[~MASK].any()
    assert_close(ours.running_mean, torchs.running_mean)
    assert_close(ours.running_var, torchs.running_var)
    ours.eval(), torchs.eval()
    assert_close(ours(values, MASK).transpose(1, 2)[MASK], torchs(real))


def test_a_single_row_is_normalised_by_running_statistics_and_leaves_them_alone():
    norm = MaskedBatchNorm(4)
    row = torch.randn(1, 4)
    found = norm(row)
    assert_close(found, row / (1 + norm.eps) ** 0.5)
    assert norm.running_mean.tolist() == [0] * 4
    assert norm.num_batches_tracked == 0
    norm(torch.randn(2, 4))
    assert norm.running_mean.any()


def test_even_attention_gives_mean_and_standard_deviation_of_the_real_frames():
    pooling = StatisticsPooling(4, 3).eval()
    torch.nn.init.zeros_(pooling.score.weight)
    values = torch.randn(3, 4, 7) * MASK[:, None]
    found = pooling(values, MASK)
    assert_close(found[0], torch.cat([values[0].mean(1), values[0].std(1, correction=0)]))
    assert_close(found[1], torch.cat([values[1, :, :4].mean(1), values[1, :, :4].std(1, correction=0)]))


def test_ecapa_has_the_parameters_that_were_published():
    paper = EcapaSettings(ecapa_channels=1024, ecapa_pooled=3072, ecapa_attention=128, embedding_width=192)

    def count(dim, **sizes):
        with torch.device("meta"):
            return sum(weights.numel() for weights in Ecapa(dim, paper.but(**sizes)).parameters())

    print(f"ECAPA 1024: {count(80):,} parameters on 80 filters, {count(1024):,} on 1024 fused")
    # Desplanques et al. 2020, table 1: 14.7 million for 1024 channels on 80 filters, of which they pool 1536.
    assert round(count(80, ecapa_pooled=1536) / 1e6, 1) == 14.7
    assert (count(80), count(1024)) == (20_761_408, 25_594_688)


def test_channels_that_res2_cannot_share_out_are_refused():
    with pytest.raises(SettingsError, match="multiple of 8"):
        EcapaSettings(ecapa_channels=100)
