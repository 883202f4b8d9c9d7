"""What is missing here of what was asked for, as jobs with exact sizes.

whole chunk    every feature's file: size and hash from the hub
single clip    its members' spans: size from the archive's directory, which is read first; and the chunk's calibration
"""

from __future__ import annotations

from pathlib import Path

from data_prep.download.choice import Choice, chunk_path, table_target
from data_prep.download.clip_files import ChunkArchive, ClipPart, plan_parts
from data_prep.download.hub import Hub, HubFile
from data_prep.download.jobs import Job, map_together
from data_prep.download.local_tables import list_whole
from data_prep.download.options import DownloadOptions
from data_prep.download.patience import FetchError
from data_prep.download.records import Records
from data_prep.download.tables import Tables
from data_prep.download.whole_file import fetch_file, is_whole, part_path


def plan_jobs(
    hub: Hub, root: Path, choice: Choice, tables: Tables, records: Records, options: DownloadOptions
) -> tuple[list[Job], int]:
    """(jobs, number of parts that are here already)."""
    if choice.clips is None:
        wanted = {}
        for chunk in choice.chunks:
            for feature in (*choice.tables, *choice.archives):
                path = chunk_path(tables, chunk, feature)
                if path:
                    wanted[path] = path
        return _plan_files(hub, root, wanted, records, options)
    whole = list_whole(root, choice, tables)
    parts = plan_parts(tables, choice)
    missing = [part for part in parts if part.chunk not in whole and (options.force or not part.is_here(root, records))]
    chunks = sorted({part.chunk for part in parts} - whole)
    wanted = {}
    for chunk in chunks:
        for feature in choice.tables:
            path = chunk_path(tables, chunk, feature)
            if path:
                wanted[table_target(chunk, feature)] = path
    jobs, num_here = _plan_files(hub, root, wanted, records, options)
    return [*jobs, *_plan_parts(hub, root, missing, tables, records, options)], num_here + len(parts) - len(missing)


def _plan_files(
    hub: Hub, root: Path, wanted: dict[str, str], records: Records, options: DownloadOptions
) -> tuple[list[Job], int]:
    """Jobs of whole files: path here -> path on the hub."""
    told = hub.describe_files(sorted(set(wanted.values()))) if wanted else {}
    jobs = []
    for target, path in wanted.items():
        if path not in told:
            jobs.append(Job(path, 0, lambda count: None, fault=f"the hub has no {path} at {hub.commit[:12]}"))
        elif options.force or not is_whole(root, target, told[path], records):
            jobs.append(_build_file_job(hub, root, target, told[path], records))
    return jobs, len(wanted) - len(jobs)


def _build_file_job(hub: Hub, root: Path, target: str, file: HubFile, records: Records) -> Job:
    part = part_path(root, file, target)
    done = part.stat().st_size if part.exists() else 0

    def fetch(count) -> None:
        fetch_file(hub, file, root, target, records, count)

    return Job(file.path, max(0, file.size - done), fetch)


def _plan_parts(
    hub: Hub, root: Path, parts: list[ClipPart], tables: Tables, records: Records, options: DownloadOptions
) -> list[Job]:
    places = {(part.chunk, part.feature): chunk_path(tables, part.chunk, part.feature) for part in parts}
    told = hub.describe_files(sorted(set(filter(None, places.values())))) if parts else {}

    def open_archive(place: tuple[int, str]) -> ChunkArchive | str:
        try:
            return ChunkArchive(hub, told[places[place]])
        except FetchError as error:
            return str(error)
        except KeyError:
            return f"the hub has no {places[place] or place[1]} of chunk {place[0]:04d} at {hub.commit[:12]}"

    archives = dict(zip(places, map_together(open_archive, list(places), options.workers, hub.stop)))
    return [_build_part_job(archives[part.chunk, part.feature], part, root, records, options) for part in parts]


def _build_part_job(
    archive: ChunkArchive | str, part: ClipPart, root: Path, records: Records, options: DownloadOptions
) -> Job:
    name = f"{part.clip_id} {part.feature}"
    if isinstance(archive, str):
        return Job(name, 0, lambda count: None, fault=archive)
    try:
        size = archive.size(part)
    except FetchError as error:
        return Job(name, 0, lambda count: None, fault=str(error))

    def fetch(count) -> None:
        archive.fetch_part(part, root, records, options.force, count)

    return Job(name, size, fetch)
