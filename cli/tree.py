"""The members and steps of a run as a tree, known from the sources of its events alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from dynamicagents.execution.v1 import event_pb2
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree as Branch

from cli.output import console as standard

_CLIP: Final = 80
_ROUND: Final = re.compile(r"\[(\d+)\]")
_TRY: Final = re.compile(r"~\d+$")
_STATES: Final = {
    "running": ("…", "cyan"),
    "waits": ("⏸", "yellow"),
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("⤼", "yellow"),
    "compensated": ("↶", "magenta"),
    "cancelled": ("✗", "red"),
}


@dataclass
class Node:
    """A member or a step; of those that are run again and again, the last time."""

    name: str
    what: str = ""
    state: str = "running"
    note: str = ""
    said: str = ""
    within: dict[str, Node] = field(default_factory=dict)

    @property
    def line(self) -> str:
        sign, colour = _STATES[self.state]
        said = self.note or self.said
        shown = f" [dim]{escape(_clip(said))}[/dim]" if said else ""
        what = f" [dim]{escape(self.what)}[/dim]" if self.what else ""
        return f"[{colour}]{sign}[/{colour}] {escape(self.name)}{what}{shown}"


class Tree:
    """Follows the events of a run."""

    def __init__(self) -> None:
        self.root = Node("")
        self._nodes: dict[str, Node] = {"": self.root}

    @property
    def is_flat(self) -> bool:
        """Nobody but the target itself has spoken."""
        return len(self._nodes) == 1

    def follow(self, event: event_pb2.ExecuteEvent) -> Node | None:
        """The node that has changed."""
        kind = event.WhichOneof("event")
        if kind == "heartbeat" or not event.source.path:
            return None
        node = self._node(event.source)
        match kind:
            case "step_started":
                begun = event.step_started
                node.what = begun.step_kind + (f", round {begun.iteration}" if begun.iteration else "")
                node.what += f", try {begun.attempt}" if begun.attempt > 1 else ""
                node.state, node.note, node.said = "running", "", ""
                for inner in node.within.values():
                    inner.state = "running"
            case "step_completed":
                self._ended(node, event.step_completed)
            case "member_started":
                node.what, node.state, node.note, node.said = "", "running", "", ""
            case "member_completed" if event.member_completed.HasField("error"):
                node.state, node.note = "failed", event.member_completed.error.message
            case "member_completed":
                node.state, node.note = "completed", event.member_completed.output
            case "content_delta":
                node.said += event.content_delta.text
            case "tool_call_started":
                node.said = f"{event.tool_call_started.tool_id} …"
            case "tool_call_completed":
                node.said = f"{event.tool_call_completed.tool_id} → {event.tool_call_completed.output}"
            case "wait_started":
                waited = event.wait_started
                node.state = "waits"
                node.said = f"for the signal {waited.signal}" if waited.signal else "for a time"
            case "input_required":
                node.state, node.note = "waits", "for an answer"
            case "execution_completed":
                node.state, node.note = "completed", ""
            case "execution_failed":
                node.state, node.note = "failed", event.execution_failed.error.message
            case "execution_cancelled":
                node.state, node.note = "cancelled", event.execution_cancelled.reason
            case _:
                node.state = "running" if node is self.root else node.state
        return node

    def _ended(self, node: Node, done: event_pb2.StepCompleted) -> None:
        outcome = event_pb2.StepOutcome.Name(done.outcome).removeprefix("STEP_OUTCOME_").lower()
        node.state = outcome
        output = MessageToDict(done.output) if done.HasField("output") else ""
        node.note = done.error.message if done.HasField("error") else output if isinstance(output, str) else str(output)

    def _node(self, source: event_pb2.Source) -> Node:
        """A scope begins with those around it; rounds and tries of one step are one node."""
        parts = [_TRY.sub("", _ROUND.sub("", part)) for part in source.scope.split("/")] if source.scope else []
        key, node = "", self.root
        node.name = node.name or source.path[0]
        for depth, part in enumerate(parts, 1):
            key = f"{key}/{part}"
            if key not in self._nodes:
                name = source.path[depth] if depth < len(source.path) else part
                self._nodes[key] = node.within[part] = Node(name)
            node = self._nodes[key]
        return node

    def drawn(self) -> Branch:
        whole = Branch(self.root.line)
        _draw(self.root, whole)
        return whole


class LiveTree:
    """The tree at the terminal: drawn anew as it changes, or, where nobody looks, once at the end."""

    def __init__(self, console: Console = standard) -> None:
        self.tree = Tree()
        self._console = console
        self._live: Live | None = None
        self._changed = False

    def show(self, event: event_pb2.ExecuteEvent) -> None:
        if self.tree.follow(event) is None:
            return
        self._changed = True
        if event.HasField("input_required"):  # somebody is asked below it
            self.stop()
        elif self._console.is_terminal and not self.tree.is_flat:
            if self._live is None:
                self._live = Live(self.tree.drawn(), console=self._console, auto_refresh=False)
                self._live.start()
            self._live.update(self.tree.drawn(), refresh=True)

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif not self._console.is_terminal and self._changed and not self.tree.is_flat:
            self._console.print(self.tree.drawn())
        self._changed = False


def _draw(node: Node, branch: Branch) -> None:
    for inner in node.within.values():
        _draw(inner, branch.add(inner.line))


def _clip(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _CLIP else line[:_CLIP] + "…"
