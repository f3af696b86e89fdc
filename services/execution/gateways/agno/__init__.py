"""Agno gives a run its prompt, and the loop of model turns and tool calls. All that it would keep, measure, retry or
send elsewhere around them is left out, and a fresh Agent is built for each run.

Events come from the two places where things happen, the model and the tools, rather than from Agno's own events: those
report a tool only when its slowest sibling is done, end a cancelled run with a completion, and lose an error's type.
"""

import logging
import os

os.environ["AGNO_TELEMETRY"] = "false"

import agno.team  # noqa: F401  Agno imports it at the first tool call, for 130 ms, on the event loop

for _name in ("agno", "agno-team", "agno-workflow"):
    logging.getLogger(_name).disabled = True  # it logs what users and models write, in a format of its own
