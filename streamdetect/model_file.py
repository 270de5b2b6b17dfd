"""What the model files of both packages share: where they lie, whose they are, and how their JSON is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamdetect.errors import ModelError
from streamdetect.runtime import first_line

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

_CHECKOUT = Path(__file__).parents[1]
SHIPPED = (
    Path(__file__).parent / "models",  # in a wheel
    *([_CHECKOUT / "models"] if (_CHECKOUT / "pyproject.toml").is_file() else ()),
)
# Each package keeps its document under its own key of the file's metadata; what to say of a file to the other package.
_OWNERS = {
    "streamdetect": "a streamdetect detector: use streamdetect replay",
    "segment": "a segmentation model: use segment predict",
}
_METADATA_FIELD = 14  # ModelProto.metadata_props in onnx.proto
_KEY_FIELD = 1  # StringStringEntryProto.key
_VARINT, _BYTES, _FIXED_BYTES = 0, 2, {1: 8, 5: 4}  # wire types of Protocol Buffers


class Document(BaseModel):
    """Base of what a model file says: immutable, finite, and without a field that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> str:
        """Return the document as it stands in the file."""
        return json.dumps(self.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)


AnyDocument = TypeVar("AnyDocument", bound=Document)


def read_document(kind: type[AnyDocument], text: str | bytes, newest: int) -> AnyDocument:
    """Read a document, and refuse one that is not understood in full.

    Parameters
    ----------
    kind : type
        What it should be.
    text : str or bytes
        JSON.
    newest : int
        The newest ``schema_version`` that is understood.

    Returns
    -------
    Document
        Of that kind.

    Raises
    ------
    ModelError
        No JSON, a newer schema, or a field that is missing, unknown or out of range; one line that names it.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_finite)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"metadata is not valid JSON: {first_line(error)}") from error
    if not isinstance(document, dict):
        raise ModelError(f"metadata: expected a JSON object, found {type(document).__name__}")
    version = document.get("schema_version")
    if type(version) is int and version > newest:
        raise ModelError(
            f"made by a newer streamdetect (schema {version}, this version reads {newest}): "
            "upgrade with pip install -U streamdetect"
        )
    try:
        return kind.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ModelError(_describe_invalid(error)) from error


def check_created(created: str) -> None:
    """Raise ValueError unless a text is an ISO 8601 date and time."""
    try:
        datetime.fromisoformat(created)
    except ValueError:
        raise ValueError(f"created: expected an ISO 8601 date and time, found {created!r}") from None


def describe_foreign(keys: Collection[str], key: str) -> str:
    """Say what a file is whose metadata lacks the key of a package, and what to do with it.

    Parameters
    ----------
    keys : collection of str
        The keys that the file's metadata has.
    key : str
        The key that was looked for.

    Returns
    -------
    str

    Examples
    --------
    >>> describe_foreign({"segment"}, "streamdetect")
    'is a segmentation model: use segment predict'
    """
    for other, description in _OWNERS.items():
        if other != key and other in keys:
            return f"is {description}"
    return f"not a {key} model: its metadata has no key {key!r}"


def list_shipped(key: str) -> tuple[str, ...]:
    """Return the names of the models that are shipped with the package and have a key in their metadata."""
    files = (path for folder in SHIPPED for path in folder.glob("*.onnx"))
    return tuple(sorted({path.stem for path in files if key in read_keys(path)}))


def find_model(path_or_name: str | PathLike[str], key: str) -> Path:
    """Return the path of a model file, or of a model that is shipped with the package.

    Parameters
    ----------
    path_or_name : path or str
        A file, or a shipped model's name with or without ``.onnx``.
    key : str
        Of the package that asks: the message for a wrong name lists the shipped models that have it.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        There is no such file or name.
    """
    path = Path(path_or_name)
    if path.exists():
        return path
    if path.name == str(path_or_name):  # a bare name, no folder
        for folder in SHIPPED:
            shipped = folder / f"{path.name.removesuffix('.onnx')}.onnx"
            if shipped.is_file():
                return shipped
    names = ", ".join(list_shipped(key)) or "none"
    raise ModelError(f"{path_or_name}: no such file, and no model shipped under that name (shipped: {names})")


def read_model(path_or_name: str | PathLike[str], key: str) -> tuple[bytes, Path]:
    """Return the content of a model file that is found as `find_model` does, and its path.

    Raises
    ------
    ModelError
        There is no such file or name, or it cannot be read.
    """
    path = find_model(path_or_name, key)
    try:
        return path.read_bytes(), path
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_keys(path: Path) -> frozenset[str]:
    """Return the keys of an ONNX file's metadata without loading its graph; none where it is no ONNX file."""
    try:
        entries = [entry for field, entry in _byte_fields(path.read_bytes()) if field == _METADATA_FIELD]
        return frozenset(key.decode() for entry in entries for field, key in _byte_fields(entry) if field == _KEY_FIELD)
    except (OSError, ValueError, IndexError):
        return frozenset()


def _byte_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each field of a Protocol Buffers message that holds bytes; skip numbers."""
    position = 0

    def read_varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while position < len(message):
        field, wire_type = divmod(read_varint(), 8)
        if wire_type == _BYTES:
            size = read_varint()
            yield field, message[position : position + size]
            position += size
        elif wire_type == _VARINT:
            read_varint()
        elif wire_type in _FIXED_BYTES:
            position += _FIXED_BYTES[wire_type]
        else:
            raise ValueError(f"no wire type of Protocol Buffers: {wire_type}")


def _describe_invalid(error: ValidationError) -> str:
    """Turn pydantic's account into one line: the first field at fault, and why."""
    first = error.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    return f"metadata: {field}: {message}" if field else f"metadata: {message}"


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number that JSON knows")


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value
