"""Files that are whole or absent: written beside their place and renamed into it."""

import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Writes text (UTF-8) or bytes to `path`, making its folder; readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        # mkstemp makes files that only their owner reads; reports are to be served and copied like any other file.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
