"""Reads a git-scraped archive: a repository in which each commit overwrites station_status.json."""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from velib.errors import Failure
from velib.producer.recording import unpacked

FILES = "*station_status*.json*"
"""The files whose versions are snapshots, as a pathspec of git."""


class GitHistory:
    """Every version of the files, in all branches.

    The name of a version is that of its file, the commit that has written it, and its blob.
    """

    def __init__(self, folder: Path) -> None:
        """Raises Failure if git is missing."""
        if shutil.which("git") is None:
            raise Failure(f"{folder} is a git repository, and git, which reads it, is missing")
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether the path is a repository, or a folder of one that has station_status.json."""
        if (path / ".git").exists() or GitHistory.is_bare(path):
            return True
        is_in_one = any((folder / ".git").exists() for folder in path.resolve().parents)
        return is_in_one and path.is_dir() and any(path.glob("station_status.json*"))

    @staticmethod
    def is_bare(path: Path) -> bool:
        """Whether the path is a repository without files that are checked out."""
        return (path / "objects").is_dir() and (path / "HEAD").is_file()

    def names(self) -> Iterator[str]:
        """`FILE in COMMIT BLOB` of each version; raises Failure if git does."""
        command = ["log", "--all", "--format=%h", "--raw", "--no-abbrev", "--no-renames"]
        seen: set[bytes] = set()
        commit = ""
        command += ["--diff-filter=AM", "--", f":(glob)**/{FILES}"]
        with tempfile.TemporaryFile() as errors, self._git(*command, stderr=errors) as git:
            assert git.stdout is not None
            for line in git.stdout:
                if not line.startswith(b":"):
                    commit = line.decode().strip() or commit
                    continue
                fields, _, file = line.rstrip(b"\n").partition(b"\t")
                blob = bytes.fromhex(fields.split()[3].decode())
                if blob not in seen:
                    seen.add(blob)
                    yield f"{file.decode(errors='replace')} in {commit} {blob.hex()}"
            status = git.wait()
            errors.seek(0)
            lines = errors.read().decode(errors="replace").split("\n")
        if status != 0:
            reason = next(filter(None, reversed(lines)), f"it ended with status {status}")
            raise Failure(f"git cannot read {self.folder}: {reason}")

    def read(self, name: str, size: int) -> bytes:
        """The first bytes of a version; raises OSError, EOFError or zlib.error."""
        return unpacked(io.BytesIO(self._blob(name.rpartition(" ")[2])), size)

    def _blob(self, blob: str) -> bytes:
        """A blob, from one process of git that serves all of them."""
        if self.process is None:
            self.process = self._git("cat-file", "--batch", stderr=subprocess.DEVNULL)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{blob}\n".encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()  # the blob, its type, its size
        if len(answer) != 3:
            raise OSError("git does not have it" if answer else "git has ended")
        size = int(answer[2])
        body = self.process.stdout.read(size + 1)
        if len(body) != size + 1:
            raise OSError("git has ended")
        return body[:-1]  # without the line break at its end

    def _git(self, *arguments: str, stderr: int | IO[bytes]) -> "subprocess.Popen[bytes]":
        """A process of git, in a session of its own: a Ctrl-C in the terminal is not for it."""
        pipe = subprocess.PIPE
        command = ("git", "-C", str(self.folder), "-c", "core.quotePath=false", *arguments)
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=stderr, start_new_session=True
        )
