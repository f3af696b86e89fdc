"""`dynamic-agents apply` and `export`: the resources of a tenant as YAML documents."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer
import yaml
from dynamicagents.registry.v1 import bundle_service_pb2, bundle_service_pb2_grpc, snapshot_pb2
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from rich.markup import escape

from cli.connection import PORT_BASE, PortBase, call
from cli.output import Failure, Json, console, print_json, to_dict
from cli.schemas import KINDS, ROUTER_CONFIG, SET_BY_SERVER, kind_named

_TIMEOUT: Final = 300.0
_EXACT: Final = 2**53
_STYLES: Final = {"created": "green", "updated": "yellow", "unchanged": "dim", "deleted": "red"}


@dataclass(frozen=True, slots=True)
class Document:
    """A resource, and where it was read."""

    file: str
    number: int
    kind: str
    snapshot: snapshot_pb2.ResourceSnapshot

    @property
    def place(self) -> str:
        return f"{self.file}, document {self.number}"

    @property
    def key(self) -> str:
        return f"{_words(KINDS[self.kind].name)} {self.snapshot.resource_id}"


def apply(
    path: Annotated[Path, typer.Option("--file", "-f", help="YAML file, or a folder of them; - reads standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, change nothing.")] = False,
    prune: Annotated[
        list[str] | None,
        typer.Option(
            help="Delete what carries this label, KEY=VALUE, and is not in the bundle; repeatable: all of them."
        ),
    ] = None,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Makes Registry's resources equal to those of YAML documents: all of them, or none."""
    labels = _labels("--prune", prune, as_json=as_json)
    try:
        documents = read(path)
    except Fault as fault:
        raise Failure(str(fault), details={"code": "INVALID_ARGUMENT"}, as_json=as_json) from None
    request = bundle_service_pb2.ApplyBundleRequest(
        resources=[document.snapshot for document in documents], dry_run=dry_run, prune_labels=labels
    )

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> Sequence[bundle_service_pb2.BundleChange]:
        return (await _stub(channel).ApplyBundle(request, **options)).changes

    try:
        changes = call("registry", port_base, use, as_json=as_json, timeout=_TIMEOUT)
    except Failure as failure:
        raise _placed(failure, documents) from None
    if as_json:
        for change in changes:
            print_json(change)
    else:
        _print(changes, dry_run=dry_run)


def export(
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind, e.g. Agent; repeatable.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Only what carries this label, KEY=VALUE; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for <kind>/<id>.yaml.")] = None,
    port_base: PortBase = PORT_BASE,
    as_json: Json = False,
) -> None:
    """Writes Registry's resources as YAML documents that `apply` takes."""
    request = bundle_service_pb2.ExportBundleRequest(
        kinds=[_number(kind_named(name, as_json=as_json)) for name in kind or ()],
        labels=_labels("--label", label, as_json=as_json),
    )

    async def use(channel: grpc.aio.Channel, options: dict[str, Any]) -> list[snapshot_pb2.ResourceSnapshot]:
        parts = _stub(channel).ExportBundle(request, **options)
        return [resource async for part in parts for resource in part.resources]

    found = call("registry", port_base, use, as_json=as_json, timeout=_TIMEOUT)
    if output is not None:
        _write(found, output, as_json=as_json)
    elif as_json:
        for snapshot in found:
            print_json(to_document(snapshot))
    else:
        print("---\n".join(map(to_yaml, found)), end="")


class Fault(Exception):
    """What is wrong with a file, in one line."""


def read(path: Path) -> list[Document]:
    found: dict[str, Document] = {}
    for file, text in _texts(path):
        for document in _documents(file, text):
            if earlier := found.get(document.key):
                raise Fault(f"{document.place}: {document.key} is in {earlier.place} already")
            found[document.key] = document
    if not found:
        raise Fault(f"{path}: has no documents")
    return list(found.values())


def to_document(snapshot: snapshot_pb2.ResourceSnapshot) -> dict[str, Any]:
    """A resource without what the server sets."""
    field = snapshot.WhichOneof("resource") or ""
    message = getattr(snapshot, field)
    content = _tidy(message.DESCRIPTOR, to_dict(message))
    kept = {name: value for name, value in content.items() if name not in SET_BY_SERVER}
    kind = kind_named(field)
    if kind == ROUTER_CONFIG:
        return {"kind": kind, "spec": kept}
    spec = kept.pop("spec", {})
    return {"kind": kind, **kept, "spec": spec}


def _tidy(message: Any, content: dict[str, Any]) -> dict[str, Any]:
    """The content with the keys of maps in order and whole numbers as such: an export is the same each time."""
    if message.full_name == "google.protobuf.Struct":
        return {name: _tidy_value(value) for name, value in sorted(content.items())}
    return {name: _tidy_field(message.fields_by_name[name], value) for name, value in content.items()}


def _tidy_field(field: Any, value: Any) -> Any:
    message = field.message_type
    if message is None:
        return value
    if message.GetOptions().map_entry:
        inner = message.fields_by_name["value"]
        return {name: _tidy_field(inner, value) for name, value in sorted(value.items())}
    if message.full_name == "google.protobuf.Value":
        return _tidy_value(value)
    if isinstance(value, list):
        return [_tidy(message, one) if isinstance(one, dict) else one for one in value]
    return _tidy(message, value) if isinstance(value, dict) else value


def _tidy_value(value: Any) -> Any:
    match value:
        case dict():
            return {name: _tidy_value(inner) for name, inner in sorted(value.items())}
        case list():
            return [_tidy_value(inner) for inner in value]
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case _:
            return value


def to_yaml(snapshot: snapshot_pb2.ResourceSnapshot) -> str:
    return yaml.dump(to_document(snapshot), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    if str(path) == "-":
        yield "standard input", sys.stdin.read()
        return
    files = _files(path) if path.is_dir() else [path]
    for file in files:
        try:
            yield str(file), file.read_text()
        except OSError as error:
            raise Fault(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Fault(f"{file}: not YAML: not UTF-8") from None


def _files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix in (".yaml", ".yml") and file.is_file())
    return sorted(file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts))


def _documents(file: str, text: str) -> Iterator[Document]:
    number = 0
    try:
        for number, content in enumerate(yaml.load_all(text, _Loader), start=1):
            if content is not None:
                yield _document(file, number, content)
    except (yaml.YAMLError, RecursionError) as error:
        raise Fault(f"{file}, document {number + 1}: not YAML: {_line(error)}") from None


def _document(file: str, number: int, content: Any) -> Document:
    place = f"{file}, document {number}"
    if not isinstance(content, dict):
        raise Fault(f"{place}: is not a mapping with a kind")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        problem = f"{kind!r} is not one of {', '.join(KINDS)}" if kind else "is required"
        raise Fault(f"{place}: kind: {problem}")
    fields = {name: value for name, value in content.items() if name != "kind"}
    if kind == ROUTER_CONFIG:
        if unknown := fields.keys() - {"spec"}:
            raise Fault(f"{place}: {min(unknown)}: is not a field of a {kind} document, which has a spec")
        fields = fields.get("spec") or {}
    snapshot = snapshot_pb2.ResourceSnapshot(kind=_number(kind), resource_id="default")
    message = getattr(snapshot, KINDS[kind].name)
    message.SetInParent()
    try:
        ParseDict(fields, message)
    except (ParseError, RecursionError) as error:
        prefix = "spec." if kind == ROUTER_CONFIG else ""
        raise Fault(f"{place}: {prefix}{_fault(error)}") from None
    if kind != ROUTER_CONFIG:
        id_field = message.DESCRIPTOR.fields[0].name
        snapshot.resource_id = getattr(message, id_field)
        if not snapshot.resource_id:
            raise Fault(f"{place}: {id_field}: is required")
    return Document(file, number, kind, snapshot)


_PARSING: Final = re.compile(r"Failed to parse (\w+) field: ")
_UNKNOWN: Final = re.compile(r'Message type "[\w.]+" has no field named "(?P<name>.*)" at "\w+(?P<path>.*)"')
_PLACE: Final = re.compile(r' at "?[A-Z]\w*(?P<path>[.\[].*?)?"?\.*$')


def _fault(error: Exception) -> str:
    """The field and what is wrong with it, out of protobuf's several lines."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    first = str(error).splitlines()[0]
    if found := _UNKNOWN.search(first):
        return f"{_joined(found['path'], found['name'])}: is not a field"
    names = _PARSING.findall(first)
    text = _PARSING.sub("", first)
    path = found["path"] or "" if (found := _PLACE.search(text)) else ""
    path = path.removeprefix(".")
    # The place may be that of the message around the field.
    if names and names[-1] not in re.split(r"[.\[]", path):
        path = _joined(path, names[-1]) if found else ".".join(names)
    text = re.sub(r'Message type "[\w.]+" ', "", _PLACE.sub("", text).rstrip("."))
    return f"{path or 'document'}: {text}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}".removeprefix(".")


def _line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return " ".join(str(error).split())


_RESOURCE: Final = re.compile(r"resources\[(?P<index>\d+)\](?:\.\w+)?(?P<path>.*)")


def _placed(failure: Failure, documents: Sequence[Document]) -> Failure:
    """The failure with documents in place of the request's `resources[i]`."""
    violations = [_placed_field(violation, documents) for violation in failure.details.get("fields", ())]
    if not violations:
        return failure
    lines = [": ".join(filter(None, (v.get("file", ""), v["field"], v["description"]))) for v in violations]
    reason = f" ({failure.details['reason']})" if failure.details.get("reason") else ""
    message = f"{failure.details['code']}{reason}: " + "\n  ".join(lines)
    details = {**failure.details, "message": "; ".join(lines), "fields": violations}
    return Failure(message, details=details, as_json=failure.as_json)


def _placed_field(violation: dict[str, str], documents: Sequence[Document]) -> dict[str, Any]:
    found = _RESOURCE.fullmatch(violation["field"])
    if found is None or int(found["index"]) >= len(documents):
        return violation
    document = documents[int(found["index"])]
    path = found["path"].removeprefix(".")
    if document.kind == ROUTER_CONFIG:
        path = _joined("spec", path) if path else "spec"
    return {**violation, "field": path, "file": document.place}


def _print(changes: Iterable[bundle_service_pb2.BundleChange], *, dry_run: bool) -> None:
    counts: Counter[str] = Counter()
    for change in changes:
        action = bundle_service_pb2.BundleAction.Name(change.action).removeprefix("BUNDLE_ACTION_").lower()
        counts[action] += 1
        kind = snapshot_pb2.ResourceKind.Name(change.kind).removeprefix("RESOURCE_KIND_").lower()
        console.print(
            f"[{_STYLES[action]}]{action:<9}[/] {_words(kind)} [bold]{change.resource_id}[/bold], "
            f"revision {change.revision}",
            soft_wrap=True,
        )
        if dry_run:
            _print_differences(change)
    summary = ", ".join(f"{counts[action]} {action}" for action in _STYLES if counts[action])
    console.print((summary or "nothing to do") + (" (dry run: nothing was stored)" if dry_run else ""))


def _print_differences(change: bundle_service_pb2.BundleChange) -> None:
    if change.differences_omitted:
        console.print("  differences that are too long to show", soft_wrap=True)
    for difference in change.differences:
        for sign, style, side in (("-", "red", "base_value"), ("+", "green", "target_value")):
            if difference.HasField(side):
                value = _tidy_value(MessageToDict(getattr(difference, side)))
                text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=sys.maxsize)
                text = text.removesuffix("...\n").rstrip("\n")
                console.print(f"  [{style}]{sign} {escape(f'{difference.path}: {text}')}[/]", soft_wrap=True)


def _write(found: Sequence[snapshot_pb2.ResourceSnapshot], folder: Path, *, as_json: bool) -> None:
    for snapshot in found:
        file = folder / (snapshot.WhichOneof("resource") or "") / f"{snapshot.resource_id}.yaml"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(to_yaml(snapshot))
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}", as_json=as_json) from None
        if as_json:
            print_json({"file": str(file)})
    if not as_json:
        console.print(f"{len(found)} resources are in {folder}")


def _labels(option: str, labels: list[str] | None, *, as_json: bool) -> dict[str, str]:
    pairs = [label.partition("=") for label in labels or ()]
    if not all(key and found for key, found, _ in pairs):
        raise Failure(f"{option}: not KEY=VALUE", as_json=as_json)
    return {key: value for key, _, value in pairs}


def _number(kind: str) -> Any:
    return snapshot_pb2.ResourceKind.Value(f"RESOURCE_KIND_{KINDS[kind].name.upper()}")


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _stub(channel: grpc.aio.Channel) -> bundle_service_pb2_grpc.BundleServiceAsyncStub:
    return bundle_service_pb2_grpc.BundleServiceStub(channel)


class _Loader(yaml.SafeLoader):
    """Dates are text, as in JSON; keys are text and come once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        made: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} is not text: quote it", key_node.start_mark)
            if key in made:
                raise yaml.MarkedYAMLError(None, None, f"the key {key!r} comes twice", key_node.start_mark)
            made[key] = self.construct_object(value_node, deep=deep)
        return made


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
