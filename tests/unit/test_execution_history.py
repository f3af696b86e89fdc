from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.execution.model.sessions import Background, Memory, Pin
from services.execution.service import history

Message = dict[str, Any]


def user(text: str, **more: Any) -> Message:
    return {"role": "user", "content": text, "tool_calls": [], "tool_call_id": "", "name": "", **more}


def says(text: str, *calls: str) -> Message:
    made = [{"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call in calls]
    return {"role": "assistant", "content": text, "tool_calls": made, "tool_call_id": "", "name": ""}


def result(call: str, text: str = "done") -> Message:
    return {"role": "tool", "content": text, "tool_calls": [], "tool_call_id": call, "name": "f"}


def two_runs() -> list[Message]:
    first = [user("one"), says("", "a", "b"), result("a"), result("b"), says("first")]
    return [*first, user("two"), says("looking", "c"), result("c"), says("second")]


def texts(messages: Any) -> list[str]:
    return [message["content"] for message in messages]


# What a caller may bring along


def test_conversation_that_fits_together_has_no_problem() -> None:
    assert history.problems(two_runs()) == []
    assert history.problems([]) == []
    assert history.problems([user("a"), user("b")]) == []


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([user("a"), says("", "x"), result("x")], "history"),
        ([user("a"), says("", "x")], "history"),
        ([user("a"), result("x"), says("b")], "history[1].tool_call_id"),
        ([says("", "x"), result("x"), result("x"), says("b")], "history[2].tool_call_id"),
        ([says("", "x", "y"), result("x"), user("b")], "history[2]"),
        ([says("", "x"), user("b"), result("x"), says("c")], "history[1]"),
    ],
)
def test_conversation_that_does_not_fit_together(messages: list[Message], field: str) -> None:
    assert field in [problem.field for problem in history.problems(messages)]


# How much of it is shown


def test_whole_runs_are_counted_by_their_user_messages() -> None:
    assert texts(history.window(two_runs(), {"num_runs": 1})) == ["two", "looking", "done", "second"]
    assert history.window(two_runs(), {"num_runs": 2}) == tuple(two_runs())
    assert history.window(two_runs(), {"num_runs": 9}) == tuple(two_runs())


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["second"]),
        (2, ["second"]),
        (3, ["looking", "done", "second"]),
        (4, ["two", "looking", "done", "second"]),
        (7, ["first", "two", "looking", "done", "second"]),
    ],
)
def test_a_call_is_never_without_its_results(count: int, expected: list[str]) -> None:
    assert texts(history.window(two_runs(), {"num_messages": count})) == expected


def test_tokens_are_bounded_from_the_newest() -> None:
    long = [user("x" * 400), says("y" * 400), user("z" * 40), says("end")]
    assert texts(history.window(long, {"max_tokens": 30})) == ["z" * 40, "end"]
    assert history.window(long, {"max_tokens": 1}) == ()
    assert len(history.window(long, {"max_tokens": 10_000})) == 4


def test_arguments_of_calls_and_media_count_too() -> None:
    call = says("", "a")
    call["tool_calls"][0]["function"]["arguments"] = "x" * 4000
    assert history.window([call, result("a"), user("b")], {"max_tokens": 500}) == (user("b"),)
    shown = user("look", media=[{"url": "https://example.com/cat.png"}])
    assert history.window([shown, says("b")], {"max_tokens": 500}) == (says("b"),)


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (0, ["one", "first", "two", "looking", "second"]),
        (1, ["one", "first", "two", "looking", "done", "second"]),
        (2, ["one", "first", "two", "looking", "done", "second"]),
        (3, texts(two_runs())),
    ],
)
def test_oldest_tool_calls_are_left_out_with_their_results(most: int, expected: list[str]) -> None:
    shown = history.window(two_runs(), {"max_tool_calls": most})
    assert texts(shown) == expected
    assert history.problems(shown) == []


def test_history_never_fills_a_message_to_router() -> None:
    huge = [user("old", media=[{"data": "x" * history.LONGEST}]), says("a"), user("b")]
    assert texts(history.window(huge, {})) == ["a", "b"]


conversations = st.lists(
    st.one_of(
        st.just([user("u")]),
        st.just([says("a")]),
        st.integers(1, 3).map(
            lambda count: [says("t", *(f"c{n}" for n in range(count))), *(result(f"c{n}") for n in range(count))]
        ),
    ),
    max_size=12,
).map(lambda units: [message for unit in units for message in unit])
limits = st.fixed_dictionaries(
    {},
    optional={
        "num_runs": st.integers(1, 5),
        "num_messages": st.integers(1, 10),
        "max_tokens": st.integers(1, 60),
        "max_tool_calls": st.integers(0, 4),
    },
)


@given(conversations, limits)
def test_every_window_fits_together_and_ends_with_the_newest(messages: list[Message], settings: Any) -> None:
    shown = history.window(messages, settings)
    assert [problem for problem in history.problems(shown) if problem.field != "history"] == []
    if "num_messages" in settings:
        assert len(shown) <= settings["num_messages"]
    if "max_tool_calls" in settings:
        assert sum(len(message["tool_calls"]) for message in shown) <= settings["max_tool_calls"]
    elif shown:
        assert list(shown) == messages[-len(shown) :]


# What is added to the instructions


def test_briefing_says_what_the_agent_wants_to_see() -> None:
    pin = Pin(summary="We spoke.", state={"b": 1, "a": [2]}, memories=(Memory("m1", "likes tea"),))
    background = Background(pin=pin)
    assert history.briefing({}, background) == ""
    everything = history.briefing(
        {
            "memory": {"add_to_context": True},
            "session": {"add_summary_to_context": True, "add_state_to_context": True},
        },
        background,
    )
    for part in ("m1: likes tea", "We spoke.", '{"a":[2],"b":1}'):
        assert part in everything
    assert "likes tea" not in history.briefing({"session": {"add_state_to_context": True}}, background)
