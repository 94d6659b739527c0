import numpy as np
import pytest
from made_features import make_codebook, write_codebooks

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.kmeans.read_codebooks import read_codebooks, read_units
from pipeline.store.dataset import Dataset

POINTS = np.arange(24, dtype=np.float32).reshape(8, 3)


def chain(layer, num_clusters, num_stages):
    books = []
    for stage in range(num_stages):
        books.append(make_codebook(layer, POINTS[:num_clusters] + stage, prior=books))
    return books


@pytest.fixture
def books(tmp_path):
    """Layer 3 has two K, layer 5 one; K = 4 has two stages, and the folder holds them in no order."""
    deep, wide, other = chain(3, 4, 2), chain(3, 8, 1), chain(5, 4, 2)
    write_codebooks(tmp_path / "books", [other[1], deep[1], wide[0], other[0], deep[0]])
    return str(tmp_path / "books")


def units(books):
    return [book.unit for book in books]


def test_all_stages_come_by_layer_and_stage(books):
    assert units(read_codebooks(books, num_clusters=4)) == [
        "layer_03_k4",
        "layer_03_k4_q1",
        "layer_05_k4",
        "layer_05_k4_q1",
    ]
    assert units(read_codebooks(books, (3,), 8)) == ["layer_03_k8"]
    assert units(read_codebooks(books, (5,))) == ["layer_05_k4", "layer_05_k4_q1"]
    assert [book.column for book in read_codebooks(books, (5,))] == ["layer_05", "layer_05_q1"]


def test_several_k_need_a_choice_and_what_is_not_there_is_named(books):
    for layers in ((), (3,), (5, 3)):
        with pytest.raises(SettingsError, match=r"K = 4, 8 for layer 3; choose one with --num-clusters"):
            read_codebooks(books, layers)
    with pytest.raises(SettingsError, match=r"no codebook of K = 8 for layers \[5\]; it has layer_05_k4_q1, layer_03"):
        read_codebooks(books, (3, 5), 8)
    with pytest.raises(SettingsError, match=r"no codebook of K = 9 for any layer"):
        read_codebooks(books, num_clusters=9)
    with pytest.raises(SettingsError, match=r"no codebook for layers \[7\]"):
        read_codebooks(books, (7,))


def test_every_codebook_is_read_by_its_unit_in_the_order_of_the_plan(books):
    dataset = Dataset.open(books, kind="codebooks")
    found = read_units(dataset)
    assert list(found) == dataset.plan.units
    assert [book.unit for book in found.values()] == dataset.plan.units


def test_stages_that_do_not_follow_from_each_other_are_refused(tmp_path):
    deep = chain(3, 4, 2)
    write_codebooks(tmp_path / "cut", deep[1:])
    with pytest.raises(CodebookMismatchError, match="layer_03_k4 has stage 1 but not stage 0"):
        read_codebooks(str(tmp_path / "cut"))
    write_codebooks(tmp_path / "mixed", [make_codebook(3, POINTS[:4] - 1), deep[1]])
    with pytest.raises(CodebookMismatchError, match="fitted after other codebooks"):
        read_codebooks(str(tmp_path / "mixed"))
