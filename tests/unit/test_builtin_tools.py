"""Built-in tools that compute, and what keeps the others inside their bounds."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from services.execution.model.tools import BoundTool, ToolResult
from services.execution.service.builtin import PURE, Builtin
from services.execution.service.builtin.addresses import Hosts, is_allowed
from services.execution.service.builtin.offers import Offer
from services.execution.service.builtin.sql import checked
from services.execution.service.schemas import problem_of, problems
from services.execution.service.tools import ASK_USER, ToolError, Tools

LEAD = dict.fromkeys(
    (
        "budget_score",
        "authority_score",
        "need_score",
        "timeline_score",
        "engagement_score",
        "company_score",
        "source_score",
        "response_speed_score",
    ),
    8,
)


async def said(name: str, **arguments: Any) -> ToolResult:
    tools = Tools([Builtin()])
    return await tools.call(BoundTool(tools.get(f"builtin/{name}"), 5.0), arguments)


async def data(name: str, **arguments: Any) -> Any:
    result = await said(name, **arguments)
    assert not result.is_error, result.output
    return orjson.loads(result.output)


@pytest.mark.parametrize("offer", PURE, ids=lambda offer: offer.tool.tool_id)
async def test_what_a_tool_says_of_itself(offer: Offer) -> None:
    tool = offer.tool
    assert problem_of(tool.input_schema) is None
    assert tool.read_only
    assert tool.description.endswith(".")
    for example in tool.examples:
        assert problems(tool.input_schema, dict(example)) == []
        assert tool.tool_id == ASK_USER or not (await said(tool.function_name, **example)).is_error


@pytest.mark.parametrize(
    ("points", "total", "classification"),
    [
        (10, 100, "hot"),
        (8, 80, "hot"),
        (7.9, 79, "warm"),
        (6, 60, "warm"),
        (4, 40, "cold"),
        (3.9, 39, "unqualified"),
        (0, 0, "unqualified"),
    ],
)
async def test_lead_score(points: float, total: float, classification: str) -> None:
    found = await data("calculate_lead_score", **dict.fromkeys(LEAD, points))
    assert (found["total_score"], found["classification"]) == (total, classification)
    assert sum(found["breakdown"].values()) == pytest.approx(total)


async def test_weights_of_a_lead_score() -> None:
    found = await data("calculate_lead_score", **{**dict.fromkeys(LEAD, 0), "company_score": 10, "need_score": 5})
    assert found["breakdown"] == {"bant": 5, "engagement": 0, "company": 20, "source": 0, "response_speed": 0}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("calculate_lead_score", {**LEAD, "need_score": 11}),
        ("calculate_lead_score", {**LEAD, "need_score": "8"}),
        ("calculate_lead_score", {}),
        ("aggregate_scores", {"scores_list": []}),
        ("aggregate_scores", {"scores_list": [{"tone": "good"}]}),
        ("format_table", {"columns": ["a", "b"], "rows": [[1]]}),
        ("format_table", {"columns": [], "rows": []}),
        ("format_chart_config", {"chart_type": "bar", "x_axis": "a", "y_axis": "b", "data": [{"a": 1}]}),
        ("format_chart_config", {"chart_type": "bar", "x_axis": "a", "y_axis": "b", "data": [{"b": 1}]}),
        ("format_chart_config", {"chart_type": "map", "x_axis": "a", "y_axis": "b", "data": [{"a": 1, "b": 1}]}),
        ("response_format_guide", {"kind": "table", "answer": "a"}),
        ("response_format_guide", {"kind": "comparison", "answer": "a", "winner": "Ann"}),
        (
            "response_format_guide",
            {"kind": "table", "answer": "a", "columns": ["a"], "rows": [[1]], "chart_type": "bar"},
        ),
    ],
)
async def test_bad_arguments(name: str, arguments: dict[str, Any]) -> None:
    assert (await said(name, **arguments)).is_error


async def test_aggregated_scores() -> None:
    found = await data("aggregate_scores", scores_list=[{"tone": 1, "grammar": 2}, {"tone": 2}, {}])
    assert found == {
        "scores": {
            "grammar": {"mean": 2, "min": 2, "max": 2, "count": 1},
            "tone": {"mean": 1.5, "min": 1, "max": 2, "count": 2},
        },
        "sample_size": 3,
    }


async def test_recommendations() -> None:
    compared = {"winner_name": "Ann", "winner_strategies": ["calls back", "listens"]}
    found = await data(
        "generate_recommendations",
        weaknesses=["Slow response time", "tone", "spelling"],
        comparison_data=compared,
        strengths=["product"],
    )
    assert [one["area"] for one in found["recommendations"]] == [
        "response_time",
        "tone",
        "spelling",
        "comparison",
        "product",
    ]
    assert "calls back, listens" in found["recommendations"][3]["action"]


async def test_table() -> None:
    result = await said("format_table", columns=["a|b", "c"], rows=[["x\ny", None], [True, 1.5]], title="T")
    assert result.output == "**T**\n\n| a\\|b | c |\n| --- | --- |\n| x<br>y |  |\n| true | 1.5 |"


async def test_chart() -> None:
    points = [{"who": "Ann", "n": 1, "m": 2}, {"who": "Bob", "n": 3, "m": 4}]
    found = await data(
        "format_chart_config", chart_type="line", x_axis="who", y_axis=["n", "m"], data=points, title="T"
    )
    assert found["data"] == {
        "labels": ["Ann", "Bob"],
        "datasets": [{"label": "n", "data": [1, 3]}, {"label": "m", "data": [2, 4]}],
    }
    assert found["options"]["plugins"]["title"] == {"display": True, "text": "T"}


async def test_format_guides() -> None:
    text = await data("response_format_guide", kind="text", answer="47 leads", highlight_numbers=True)
    assert text["format_guide"]["structure"] == {"type": "single_paragraph", "highlight_numbers": True}
    table = await data(
        "response_format_guide", kind="table", answer="a", columns=["who", "n"], rows=[["Ann", 1]], chart_type="bar"
    )
    assert table["format_guide"]["chart_config"]["y_column"] == "n"
    compared = await data(
        "response_format_guide",
        kind="comparison",
        answer="Bob wins",
        winner="Bob",
        dimensions={"tone": {"Ann": 5, "Bob": 7}, "speed": {"Ann": 9}},
        insights=["calm"],
    )
    sections = compared["format_guide"]["structure"]["sections"]
    assert sections[1]["rows"] == [["tone", "Bob", 7], ["speed", "Ann", 9]]
    assert [one["name"] for one in compared["format_guide"]["chart_config"]["series"]] == ["Bob", "Ann"]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:0:0:0:0:80ff:fffe",
        "no address",
    ],
)
def test_addresses_inside(address: str) -> None:
    assert not is_allowed(address, private=False)


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "fd00:ec2::254"]
)
def test_addresses_that_nobody_may_reach(address: str) -> None:
    assert not is_allowed(address, private=True)


def test_addresses_outside() -> None:
    assert is_allowed("93.184.216.34", private=False)
    assert is_allowed("2606:4700::1111", private=False)
    assert is_allowed("10.0.0.1", private=True)


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://example.com/a?b#c", False),
        ("http://EXAMPLE.com./", False),
        ("https://a.b.example.org", False),
        ("http://crm.local:8080/x", True),
        ("https://odd.example.com:8443", False),
    ],
)
def test_urls_that_are_allowed(url: str, private: bool) -> None:
    assert HOSTS.checked(url)[1] == private


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "//example.com",
        "example.com",
        "http://",
        "http://user:pw@example.com",
        "http://example.com@evil.test/",
        "http://evil.test/?example.com",
        "http://example.com.evil.test",
        "http://notexample.org",
        "http://example.org",
        "http://example.com:22",
        "http://example.com:99999",
        "http://crm.local",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::1/",
        "http://example.com\\@evil.test",
    ],
)
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(ToolError):
        HOSTS.checked(url)


HOSTS = Hosts(["example.com", "*.example.org", "odd.example.com:8443"], ["crm.local:8080"])


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "select count(*), lower(a) from t where b in (select b from u) group by a having count(*) > 1 order by 1",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x UNION ALL SELECT 2",
        "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT n FROM x",
        "SELECT a, row_number() OVER (PARTITION BY b ORDER BY c) FROM t",
        "SELECT 'a;b' AS x; -- nothing",
        "SELECT coalesce(a, 'x'), cast(b AS text), CASE WHEN a > 1 THEN 2 END FROM t",
    ],
)
def test_queries_that_read(query: str, dialect: str) -> None:
    assert ";" not in checked(query, dialect).replace("a;b", "")


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    "query",
    [
        "",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "DELETE FROM t",
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DROP TABLE t",
        "CREATE TABLE t (a int)",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
        "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x",
        "WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x",
        "SELECT * INTO u FROM t",
        "SELECT * FROM t FOR UPDATE",
        "SELECT pg_sleep(100)",
        'SELECT "pg_sleep"(100)',
        "SELECT pg_catalog.pg_terminate_backend(1)",
        "SELECT nextval('s')",
        "SELECT setval('s', 1)",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM dblink('x', 'y') AS t(a int)",
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "SELECT repeat('x', 1000000000)",
        "SELECT load_extension('x')",
        "SELECT writefile('a', 'b')",
        "SELECT * FROM pragma_table_info('t')",
        "PRAGMA query_only = 0",
        "ATTACH 'x' AS y",
        "VACUUM",
        "BEGIN",
        "COMMIT",
        "SET ROLE postgres",
        "COPY t TO '/tmp/x'",
        "EXPLAIN ANALYZE DELETE FROM t",
        "CALL p()",
        "DO $$ BEGIN DELETE FROM t; END $$",
        "SELECT (",
        "this is no SQL at all",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_queries_that_do_not(query: str, dialect: str) -> None:
    with pytest.raises(ToolError):
        checked(query, dialect)
