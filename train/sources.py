"""Text by the name of a data set: the standard library's topics, local files, the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub
from errors import WrongInput

# Names for well-known sets of the hub: repository and configuration.
ALIASES = {
    "wikitext": "Salesforce/wikitext:wikitext-2-raw-v1",
    "tinystories": "roneneldan/TinyStories:default",
}
_PIECE = 1 << 20  # characters tokenized at a time
_TEXT_FIELDS = ("text", "content")

Pieces = Iterator[tuple[str, bool]]  # (text, whether a document ends with it)


@dataclass(frozen=True)
class Source:
    """A data set that was found: its name, a key that changes when its content does, its text."""

    name: str
    key: str
    pieces: Callable[[], Pieces]


def find(name: str) -> Source:
    """Return the data set `name`.

    Raises:
        WrongInput: there is no such data set, or it cannot be reached.
    """
    if name == "python-docs":
        return _python_docs()
    path = Path(name).expanduser()
    if name and path.exists():  # an empty name would be the present folder
        return _local(name, path)
    repository = ALIASES.get(name, name)
    owner, slash, repo = repository.partition("/")
    looks_like_a_file = repo.count("/") > 0 or owner in {"", ".", "..", "~"} or Path(name).suffix in _READERS
    if slash and repo and not looks_like_a_file:
        return _hub(name, repository)
    raise WrongInput(
        f"unknown data set {name!r}: no such file on the node of rank 0; use python-docs, "
        f"a .txt, .jsonl or .parquet file or a folder of them, {', '.join(ALIASES)}, or a hub name (owner/name)"
    )


def _python_docs() -> Source:
    """The topics of Python's own `help()`: half a megabyte of real text on every machine."""
    from pydoc_data.topics import topics

    documents = [topics[topic] for topic in sorted(topics)]
    key = hashlib.sha256("\0".join(documents).encode()).hexdigest()
    return Source("python-docs", key, lambda: ((text, True) for text in documents))


def _local(name: str, path: Path) -> Source:
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file() and f.suffix in _READERS)
    wrong = [f for f in files if f.suffix not in _READERS]
    if wrong or not files:
        what = f"has the unknown ending {path.suffix!r}" if wrong else "has no such files in it"
        raise WrongInput(f"data set {name!r} {what}; files must end with {', '.join(_READERS)}")
    stats = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return _of_files(name, json.dumps(stats), files)


def _of_files(name: str, key: str, files: list[Path]) -> Source:
    def pieces() -> Pieces:
        for file in files:
            try:
                yield from _READERS[file.suffix](file)
            except (OSError, UnicodeDecodeError) as error:
                raise WrongInput(f"data set {name!r}: {file} cannot be read as UTF-8 text: {error}") from error

    return Source(name, key, pieces)


def _hub(name: str, repository: str) -> Source:
    """Every public data set of the hub also exists there as parquet files, by configuration and split."""
    offline = hub.prepare_client()
    from huggingface_hub import snapshot_download

    repo, _, configuration = repository.partition(":")
    try:
        folder = snapshot_download(
            repo,
            repo_type="dataset",
            revision="refs/convert/parquet",
            allow_patterns=[f"{configuration or 'default'}/train/*.parquet"],
        )
    except (OSError, ValueError) as error:
        raise WrongInput(hub.what_failed("data set", name, offline, error)) from error
    files = sorted(Path(folder).glob(f"{configuration or 'default'}/train/*.parquet"))
    if not files:
        raise WrongInput(
            f"data set {name!r} has no training text in configuration {configuration or 'default'!r}; "
            "name another one as owner/name:configuration"
        )
    return _of_files(name, f"hub {repository} {Path(folder).name}", files)


def _read_text(path: Path) -> Pieces:
    with path.open(encoding="utf-8") as stream:
        piece = "".join(stream.readlines(_PIECE))
        while piece:
            following = "".join(stream.readlines(_PIECE))
            yield piece, not following
            piece = following


def _read_json_lines(path: Path) -> Pieces:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise WrongInput(f"{path}:{number} is not JSON: {error}") from error
            text = record if isinstance(record, str) else _text_of(record)
            if text is None:
                raise WrongInput(f"{path}:{number} has no text; each line must be a string or have a field 'text'")
            yield text, True


def _text_of(record: Any) -> str | None:
    if not isinstance(record, dict):
        return None
    for name in (*_TEXT_FIELDS, *record):
        if isinstance(record.get(name), str):
            return str(record[name])
    return None


def _read_parquet(path: Path) -> Pieces:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise WrongInput(f"{path} needs pyarrow to be read; install it on the node of rank 0") from error
    try:
        file = parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise WrongInput(f"{path} is not a parquet file: {error}") from error
    strings = [f.name for f in file.schema_arrow if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    column = next((name for name in (*_TEXT_FIELDS, *strings) if name in strings), None)
    if column is None:
        raise WrongInput(f"{path} has no column of text; its columns: {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(columns=[column], batch_size=1024):
        for text in batch.column(0).to_pylist():
            if text:
                yield text, True


_READERS: dict[str, Callable[[Path], Pieces]] = {
    ".txt": _read_text,
    ".md": _read_text,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
