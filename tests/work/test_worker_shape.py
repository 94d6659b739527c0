"""Shapes of encoder actors and decode tasks on clusters of every kind, computed without Ray."""

import pytest

from pipeline.errors import ClusterShapeError, SettingsError
from pipeline.work.worker_shape import Node, Placement, worker_shape

CPU_NODE = Node(cpus=16, resources=frozenset({"CPU", "decoding"}))
GPU_NODE = Node(cpus=4, gpus=1, resources=frozenset({"CPU", "GPU"}))


@pytest.mark.parametrize(
    ("nodes", "placement", "expected"),
    [
        ([Node(cpus=1)], Placement(), (1, 0.75, 0, 1)),
        ([Node(cpus=2)], Placement(), (2, 0.75, 0, 2)),
        ([Node(cpus=8)], Placement(threads=2), (4, 1.75, 0, 4)),
        ([Node(cpus=2)], Placement(num_workers=1), (1, 0.75, 0, 5)),
        ([Node(cpus=8, gpus=2)], Placement(), (2, 1.0, 1, 24)),
        ([Node(cpus=8, gpus=2)], Placement(gpus_per_worker=0.5), (4, 1.0, 0.5, 16)),
        ([Node(cpus=8, gpus=1)], Placement(gpus_per_worker=1 / 3), (3, 1.0, 1 / 3, 20)),
        ([Node(cpus=8, gpus=2)], Placement(gpus_per_worker=0), (8, 0.75, 0, 8)),
        ([GPU_NODE] * 3, Placement(), (3, 1.0, 1, 36)),
        ([CPU_NODE, GPU_NODE, GPU_NODE], Placement(decode_resource="decoding"), (2, 1.0, 1, 64)),
        ([CPU_NODE, Node(cpus=1, gpus=1)], Placement(decode_resource="decoding", decode_cpus=0.5), (1, 1.0, 1, 32)),
    ],
)
def test_shapes_leave_room_for_decoding(nodes, placement, expected):
    shape = worker_shape(nodes, placement)
    assert (shape.num_workers, shape.cpus, shape.gpus, shape.decoders) == expected
    assert shape.num_workers * shape.cpus + shape.decoders * shape.decode_cpus <= sum(node.cpus for node in nodes)
    assert shape.device == ("cuda" if shape.gpus else "cpu")


@pytest.mark.parametrize(
    ("nodes", "placement"),
    [
        ([Node(cpus=2)], Placement(num_workers=3)),
        ([Node(cpus=1, gpus=1)], Placement()),
        ([Node(cpus=8, gpus=1)], Placement(num_workers=2)),
        ([Node(cpus=8)], Placement(gpus_per_worker=1)),
        ([], Placement()),
        ([GPU_NODE], Placement(decode_resource="decoding")),
        # Enough GPUs in all, but no node has two.
        ([GPU_NODE, GPU_NODE], Placement(gpus_per_worker=2)),
        # Enough CPUs in all, but not where the GPU is.
        ([Node(cpus=0.5, gpus=1), CPU_NODE], Placement()),
    ],
)
def test_a_shape_that_cannot_run_is_refused(nodes, placement):
    with pytest.raises(ClusterShapeError, match="do not fit"):
        worker_shape(nodes, placement)


def test_a_pool_that_may_grow_starts_small_and_says_so():
    shape = worker_shape([GPU_NODE], Placement(max_workers=8))
    assert (shape.num_workers, shape.max_workers) == (1, 8)
    assert "1 to 8 encoder actor(s)" in str(shape)
    assert worker_shape([GPU_NODE] * 4, Placement(num_workers=2, max_workers=3)).num_workers == 2


def test_a_stage_without_work_for_gpus_leaves_them_alone():
    shape = worker_shape([Node(cpus=4, gpus=4)], Placement(gpus_per_worker=1), use_gpu=False)
    assert (shape.num_workers, shape.gpus, shape.device) == (4, 0, "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_workers": 0}, "num_workers must be at least 1"),
        ({"num_workers": 4, "max_workers": 2}, "above max_workers"),
        ({"gpus_per_worker": 1.5}, "gpus_per_worker"),
        ({"gpus_per_worker": -1}, "gpus_per_worker"),
        ({"decode_cpus": 0}, "decode_cpus"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Placement(**settings)
