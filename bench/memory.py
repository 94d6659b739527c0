"""Peak memory of driver and workers as the audio grows: it should not.

    python -m bench.memory [--hours 1 10] [--shard-minutes 5] [--corpus fsdd] [--json FILE]

A listing repeats the recordings of a corpus under new ids until it is long enough; the jobs build its manifest and
tokenise it with the small random encoder. While they run, the resident memory of every process they started is
sampled; the report's own figures stand beside. "Own" leaves out pages of Ray's object store, which are resident in
each process that has mapped them; the store, counted once, has a line of its own.
Without --shard-minutes the manifest makes longer shards of a longer corpus, up to 30 minutes, and memory follows them.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import psutil

from bench.measuring import table, write_json
from bench.workload import (
    build_model,
    common_root,
    make_codebooks,
    make_manifest,
    recordings,
    run_job,
    write_listing,
)

LAYERS = (2, 4, 6)
ROLES = (
    "driver",
    "largest worker",
    "largest worker, own",
    "all workers, own",
    "all processes",
    "all processes, own",
    "object store",
)


def sampled_run(name: str, *flags: object, log: Path | None = None) -> dict[str, Any]:
    """Run a job and give its report with ``peaks``: bytes of the driver, its largest worker, and all together.

    Args:
        name: The job.
        flags: Its flags and their values.
        log: File for what the job writes on standard error.
    """
    peaks = dict.fromkeys(ROLES, 0)

    def watch(pid: int) -> None:
        for role, size in resident(psutil.Process(pid)).items():
            peaks[role] = max(peaks[role], size)

    report = run_job(name, *flags, watch=watch, log=log)
    peaks["driver"] = max(peaks["driver"], report["driver_peak_bytes"])
    return report | {"peaks": peaks}


def resident(driver: psutil.Process) -> dict[str, int]:
    """Give resident bytes: of a driver, of the Ray workers under it, of all its processes, and of the store."""
    found = dict.fromkeys(ROLES, 0)
    try:
        processes = [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return found
    for process in processes:
        try:
            size, shared, title = *pages(process.pid), " ".join(process.cmdline()[:1])
        except (psutil.Error, OSError):
            continue
        found["all processes"] += size
        found["all processes, own"] += size - shared
        # One process has not touched every page of the store, so it may be somewhat larger.
        found["object store"] = max(found["object store"], shared)
        if process.pid == driver.pid:
            found["driver"] = size
        elif title.startswith("ray::"):
            found["largest worker"] = max(found["largest worker"], size)
            found["largest worker, own"] = max(found["largest worker, own"], size - shared)
            found["all workers, own"] += size - shared
    return found


def pages(pid: int) -> tuple[int, int]:
    """Give the resident bytes of a process, and those of them in shared memory; 0 once it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest
    }
    return sizes.get("VmRSS", 0), sizes.get("RssShmem", 0)


def run_hours(
    hours: float, audio: list[Path], folder: Path, encoder: Path, codebooks: Path, shard_minutes: float | None
) -> dict[str, Any]:
    """Build the manifest of so many hours and tokenise it, watching memory in both."""
    here = folder / f"{hours:g}h"
    here.mkdir()
    seconds = write_listing(here / "listing.jsonl", iter(audio), 3600 * hours, repeat=True)
    built = sampled_run(
        "build_manifest",
        *("--corpus", here / "listing.jsonl", "--layout", "listing", "--roots", common_root(audio)),
        *("--output", here / "manifest"),
        *(("--shard-minutes", shard_minutes) if shard_minutes else ()),
    )
    made = sampled_run(
        "tokenize_corpus",
        *("--manifest", here / "manifest", "--encoder", encoder, "--codebooks", codebooks),
        *("--output", here / "tokens"),
    )
    return {
        "hours": seconds / 3600,
        "rows": made["rows"],
        "build_manifest": built["peaks"],
        "tokenize_corpus": made["peaks"],
        "reported": {"decode": made["load_peak_bytes"], "encode": made["make_peak_bytes"]},
        "wall_seconds": made["wall_seconds"],
    }


def lines(runs: list[dict[str, Any]]) -> list[list[str]]:
    """Lay figures out by stage and role: MiB for each run, and the last over the first."""
    rows = []
    for stage, roles in (("build_manifest", ROLES), ("tokenize_corpus", ROLES), ("reported", ("decode", "encode"))):
        for role in roles:
            sizes = [run[stage][role] for run in runs]
            ratio = f"{sizes[-1] / sizes[0]:.2f}" if sizes[0] else "unknown"
            rows.append([stage, role, *(f"{size / 2**20:.0f}" for size in sizes), ratio])
    return rows


def main() -> None:
    """Measure each length and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", nargs="+", type=float, default=[1.0, 10.0])
    parser.add_argument("--corpus", default="librispeech", help="librispeech, fsdd, or a folder of audio")
    parser.add_argument("--shard-minutes", type=float, help="audio in a shard; default: as the manifest chooses")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = folder / "encoder"
        encoder.mkdir()
        build_model("small", encoder)
        audio = list(recordings(given.corpus, folder))
        few = folder / "few"
        few.mkdir()
        write_listing(few / "listing.jsonl", iter(audio), max(60.0, given.clusters / 2))
        manifest = make_manifest(few, few / "listing.jsonl", common_root(audio))
        codebooks = make_codebooks(few, encoder, manifest, LAYERS, given.clusters)
        runs = [run_hours(hours, audio, folder, encoder, codebooks, given.shard_minutes) for hours in given.hours]
    header = ["stage", "process", *(f"{run['hours']:.2f} h, MiB" for run in runs), "last / first"]
    print(table(header, lines(runs)))
    write_json(given.json, {"runs": runs})


if __name__ == "__main__":
    main()
