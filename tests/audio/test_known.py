import logging
import shutil

import pytest
from made_corpus import write_corpus

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, prepare
from pipeline.errors import ManifestError


def config_of(corpus, output, **settings):
    return BuildManifestConfig.of(corpus=str(corpus), layout="folder", output=str(output), **settings)


def listed(prepared):
    return [name for piece in prepared.pieces for name in piece["utterance_id"].to_pylist()]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A corpus of ten files, its manifest, and four files that were added later."""
    from pipeline.audio.stage import build_manifest

    folder = tmp_path_factory.mktemp("grown")
    write_corpus(folder / "all", num_files=14)
    files = sorted(path for path in (folder / "all").rglob("*") if path.is_file())
    (folder / "audio").mkdir()
    for file in files[:10]:
        shutil.copy(file, folder / "audio" / file.name)
    build_manifest(config_of(folder / "audio", folder / "first"))
    for file in files[10:]:
        shutil.copy(file, folder / "audio" / file.name)
    return folder


def test_a_corpus_that_grew_gives_a_manifest_of_what_is_new(grown, tmp_path, caplog):
    before = {name for unit in Manifest(str(grown / "first")).units for name in ids_of(grown / "first", unit)}
    everything = listed(prepare(config_of(grown / "audio", tmp_path / "all")))
    with caplog.at_level(logging.INFO):
        new = listed(prepare(config_of(grown / "audio", tmp_path / "new", known=(str(grown / "first"),))))
    assert len(before) == 10
    assert sorted([*before, *new]) == sorted(everything)
    assert f"passed over known: utterances that earlier manifests hold; {len(before)}, as" in caplog.text


def ids_of(folder, unit):
    return Manifest(str(folder)).rows(unit)["utterance_id"].to_pylist()


def test_recordings_that_are_cut_or_parted_are_known_as_a_whole(grown, tmp_path):
    new = prepare(config_of(grown / "audio", tmp_path / "new", known=(str(grown / "first"),), channels="split"))
    assert len(listed(new)) == 4
    assert new.plan.content["known"] != []


def test_a_corpus_without_anything_new_is_refused(grown, tmp_path):
    shutil.copytree(grown / "audio", tmp_path / "audio")
    small = tmp_path / "small"
    small.mkdir()
    first = sorted(path for path in (tmp_path / "audio").iterdir())[0]
    shutil.copy(first, small / first.name)
    with pytest.raises(ManifestError, match="that are not known already"):
        prepare(config_of(small, tmp_path / "new", known=(str(grown / "first"),)))


def test_without_known_manifests_plans_are_as_before(tmp_path):
    write_corpus(tmp_path / "audio", num_files=3)
    assert "known" not in prepare(config_of(tmp_path / "audio", tmp_path / "new")).plan.content
