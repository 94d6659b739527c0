import logging

import pytest

from pipeline.features.passes.settings import EncodingSettings, remark_small_batches


@pytest.mark.parametrize(
    ("device", "batch_seconds", "remarked"),
    [("cuda", 8.0, True), ("cuda:0", 8.0, True), ("cuda", 120.0, False), ("cpu", 8.0, False)],
)
def test_a_gpu_with_batches_made_for_cpus_is_remarked_upon(caplog, device, batch_seconds, remarked):
    config = EncodingSettings.of(layers=(1,), encoder="x", batch_seconds=batch_seconds)
    with caplog.at_level(logging.WARNING):
        remark_small_batches(config, device)
    assert [record.message.startswith("--batch-seconds 8 suits CPUs") for record in caplog.records] == [True] * remarked
