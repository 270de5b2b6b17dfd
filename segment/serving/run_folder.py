"""The folder of a run: all that must outlive a crash, so that the run can go on where it stood.

::

    mask.ome.zarr.run/        beside the output that it becomes
        manifest.json         what is computed: model, settings, input, blocks; and their hash, the key
        mask.zarr/            the images that are being written, a file a block
        done/00000012.json    a block that is written for good; this file appears after the block's own
        failed/00000013.json  what a block that could not be computed said; gone once it is done
        locks/                held by processes that are at work; locks die with them
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from segment.errors import InputError
from segment.volumes.sharded import write_durably
from segment.volumes.writer import disk_refused

SCHEMA_VERSION = 1
ENDING = ".run"
_CREATE_S = 60.0  # for another process to make the folder
_CONTENT = {"manifest.json", "mask.zarr", "probabilities.zarr", "done", "failed", "locks", "run.json"}


class RunLocked(InputError):
    """Another process is at work on the same; one line that says which."""


@dataclass(frozen=True)
class Manifest:
    """What a run computes; the same manifest gives the same result to the last bit.

    Parameters
    ----------
    model : dict
        Name and SHA-256.
    settings : dict
        All that decides the result beside the model and the input.
    input : dict
        What the input is known by.
    blocks : dict
        Shape of the volume and of a block, and the number of blocks.
    versions : dict
        Of the packages that the run was begun with.
    schema_version : int
    """

    model: dict[str, Any]
    settings: dict[str, Any]
    input: dict[str, Any]
    blocks: dict[str, Any]
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def key(self) -> str:
        """SHA-256 over model, settings, input and blocks, in hexadecimal."""
        document = [self.model["sha256"], self.settings, self.input, self.blocks]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def find_differences(old: Manifest, new: Manifest) -> list[str]:
    """Return what a run was begun with that is another now, in words, one entry each.

    A part of the input that could not be read when either was made says nothing.
    """
    found = []
    if old.model["sha256"] != new.model["sha256"]:
        before, after = (f"{each.model['name']} ({each.model['sha256'][:8]})" for each in (old, new))
        found.append(f"model {before}, now {after}")
    for part in ("settings", "input", "blocks"):
        olds, news = getattr(old, part), getattr(new, part)
        for name in sorted({*olds, *news}):
            one, other = olds.get(name), news.get(name)
            if name == "samples":
                if any(None not in pair and pair[0] != pair[1] for pair in zip(one or (), other or (), strict=False)):
                    found.append("other voxels in the input")
            elif one != other:
                found.append(f"{name.replace('_', ' ')} {_say(one)}, now {_say(other)}")
    return found


def _say(value: Any) -> str:
    return "none" if value is None else json.dumps(value) if not isinstance(value, str) else value[:40]


@dataclass(frozen=True)
class BlockRecord:
    """What is known of a block that is done.

    Parameters
    ----------
    index : int
    n_foreground : int
        Voxels.
    n_voxels : int
        That were computed; 0 where it was skipped.
    seconds : float
        From before it was read until it was written, waits included.
    provider : str
        ONNX Runtime's name of what ran the network.
    attempts : int
        1 where it went well at once.
    skipped : str
        ``background`` or ``mask``; empty where it was computed.
    """

    index: int
    n_foreground: int
    n_voxels: int
    seconds: float
    provider: str
    attempts: int
    skipped: str = ""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Parameters
    ----------
    path : path
    """

    path: Path

    @classmethod
    def of(cls, out: Path) -> RunFolder:
        """Return the folder that belongs to an output, whether it is there or not."""
        return cls(out.with_name(out.name + ENDING))

    def image(self, name: str) -> Path:
        """Return where an image is while it is being written, such as ``mask``."""
        return self.path / f"{name}.zarr"

    @property
    def exists(self) -> bool:
        """Whether a run was begun and has not ended."""
        return (self.path / "manifest.json").is_file()

    def read_manifest(self) -> Manifest:
        """Return what the run computes.

        Raises
        ------
        InputError
            It is not there, or not what this version writes.
        """
        path = self.path / "manifest.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            key = document.pop("key")
            manifest = Manifest(**document)
            if manifest.schema_version != SCHEMA_VERSION or manifest.key != key:
                raise ValueError("it was changed, or written by another version")
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise InputError(f"{path}: cannot be used: {error}; remove {self.path} and start anew") from error
        return manifest

    def check_free(self) -> None:
        """Refuse a folder that is there and is no run's: it would be removed at the end.

        Raises
        ------
        InputError
            Something else is in it, or it is no folder.
        """
        if self.path.exists() and not (self.path.is_dir() and {path.name for path in self.path.iterdir()} <= _CONTENT):
            raise InputError(
                f"{self.path}: is needed for the run, and something else is there; move it, or choose another OUT"
            )

    def create(self, manifest: Manifest) -> None:
        """Write the manifest, after which the run counts as begun.

        Raises
        ------
        InputError
            The folder cannot be written to.
        """
        with disk_refused(self.path):
            for name in ("done", "failed"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
            _write_json(self.path / "manifest.json", {"key": manifest.key, **asdict(manifest)})

    def remove(self) -> None:
        """Remove all of it; what is left after a crash in here does not count as a run."""
        (self.path / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    # --- blocks

    def commit(self, record: BlockRecord) -> None:
        """Note that a block is written for good.

        Raises
        ------
        InputError
            The disk is full, or cannot be written to.
        """
        with disk_refused(self.path):
            _write_json(self._file("done", record.index), asdict(record))
            self._file("failed", record.index).unlink(missing_ok=True)

    def read_record(self, index: int) -> BlockRecord | None:
        """Return what is known of a block that is done, or None.

        Raises
        ------
        InputError
            Its file was changed.
        """
        document = _read_json(self._file("done", index))
        try:
            return BlockRecord(**document) if document is not None else None
        except TypeError:
            raise _damaged(self._file("done", index)) from None

    def note_failure(self, index: int, message: str) -> None:
        """Note what a block said that could not be computed, and that it was tried once more."""
        with suppress(OSError):  # the block fails for its own reason, which is told in any case
            document = {"index": index, "message": message, "attempts": self.count_failures(index) + 1, **_who()}
            _write_json(self._file("failed", index), document)

    def count_failures(self, index: int) -> int:
        """Return how many times a block that is not done was tried."""
        return int((_read_json(self._file("failed", index)) or {}).get("attempts", 0))

    def failures(self) -> dict[int, str]:
        """Return what the blocks said that failed when they were last tried."""
        documents = ((index, _read_json(self._file("failed", index))) for index in sorted(self._indices("failed")))
        return {index: str(document["message"]) for index, document in documents if document is not None}

    def committed(self) -> set[int]:
        """Return the blocks that are done."""
        return self._indices("done")

    def records(self) -> Iterator[BlockRecord]:
        """Yield what is known of each block that is done, in any order."""
        for index in self._indices("done"):
            record = self.read_record(index)
            if record is not None:
                yield record

    def _file(self, kind: str, index: int) -> Path:
        return self.path / kind / f"{index:08d}.json"

    def _indices(self, kind: str) -> set[int]:
        with os.scandir(self.path / kind) as entries:
            return {int(entry.name[:-5]) for entry in entries if entry.name.endswith(".json")}

    # --- locks

    @contextmanager
    def lock(self, name: str, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
        """Hold a lock that dies with this process.

        Parameters
        ----------
        name : str
        doing : str
            What the holder does, for the message that refuses others.
        wait_s : float
            Seconds to wait for it.

        Raises
        ------
        RunLocked
            Another process holds it; one line that says which.
        InputError
            The folder cannot be written to.
        """
        path = self.path / "locks" / f"{name}.lock"
        holder = path.with_suffix(".json")
        with disk_refused(self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            try:
                found = _read_json(holder) or {}
            except InputError:
                found = {}  # it is being written
            who = f"process {found.get('pid', '?')} on {found.get('host', 'a host that is not known')}"
            raise RunLocked(f"{self.path}: {who} is {doing}; wait for it, or stop it") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be locked: {error.strerror or error}") from error
        try:
            with disk_refused(self.path):
                _write_json(holder, _who())
            yield
        finally:
            with suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def lock_shard(self, shard: int, n_shards: int) -> Iterator[None]:
        """Hold the lock of a part of the blocks, while no other split of the blocks is worked on.

        Raises
        ------
        RunLocked
            Another process is at work on the same part, or on a part of another split.
        """
        name = f"shard-{shard}-of-{n_shards}"
        doing = "at work on this run" if n_shards == 1 else f"at work on shard {shard} of {n_shards}"
        with self.lock(name, doing):
            for other in (self.path / "locks").glob("shard-*-of-*.lock"):
                if not other.stem.endswith(f"-of-{n_shards}"):
                    with self.lock(other.stem, f"at work on {other.stem.replace('-', ' ')} of this run"):
                        pass
            yield

    @contextmanager
    def being_created(self) -> Iterator[None]:
        """Hold the lock under which the folder is made, so that shards that start together make one."""
        with self.lock("create", "making the run folder", wait_s=_CREATE_S):
            yield


def _who() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_durably(path, json.dumps(document, indent=1).encode())


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: was changed or damaged; remove this file, and --resume goes on without it")
