"""Java's class data: an archive from which Java loads classes faster than from their jars.

A third of the work of a start is reading and checking classes. `local/class_data.py` makes the
archives in set-up; without them everything works, and starts more slowly.
"""

import hashlib
from pathlib import Path

from velib import java

QUIET = "-Xlog:cds*=off"
"""The option that keeps Java from writing about its archive, above all when it cannot use it."""


def archive(cache_dir: Path, program: str, jars: Path) -> Path:
    """Where the archive of a program is whose jars are in a folder; it may not exist yet.

    Java uses an archive only with the same build of Java and the same jars as when it was made. So
    the name tells both: another Java or another version of the program has an archive of its own.
    Raises JavaMissing.
    """
    digest = hashlib.sha256(java.build().encode())
    for jar in sorted(jars.glob("*.jar")):
        status = jar.stat()
        digest.update(f"{jar} {status.st_size} {status.st_mtime_ns}\n".encode())
    return cache_dir / "class-data" / f"{program}-{digest.hexdigest()[:16]}.jsa"


def options(cache_dir: Path, program: str, jars: Path) -> list[str]:
    """The options with which Java uses the program's archive, none if there is no archive.

    If the path of the jars has spaces, or letters that are not ASCII, Java loads their classes from
    the jars all the same, and starts more slowly. Raises JavaMissing.
    """
    path = archive(cache_dir, program, jars)
    return [f"-XX:SharedArchiveFile={path}", QUIET] if path.exists() else []
