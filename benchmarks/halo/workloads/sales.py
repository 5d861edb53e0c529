"""W5 and W6: reports about sales. Twins of flows/w5.yaml and flows/w6.yaml, with the graphs of Halo's TPC-H
workloads."""

from __future__ import annotations

from typing import Any

from halo.flows.parameters import read
from halo.graph import Calls, Graph, Row, Rows
from halo.workloads.queries import Q1, Q2, Q3, Q5, Q6, Q9, Q15

SYSTEM = "You analyse sales figures for a wholesaler. Use only the figures that are given and keep it short."
Named = dict[str, Any]


async def rule_param_extractor(row: Row) -> Named:
    return read(row["request"])


async def http_q12(calls: Calls, rule_param_extractor: Named) -> Any:
    return await calls.http("/q12", region=rule_param_extractor["region"], since=rule_param_extractor["since"])


async def http_q14(calls: Calls, rule_param_extractor: Named) -> Any:
    return await calls.http("/q14", segment=rule_param_extractor["segment"], since=rule_param_extractor["since"])


async def sql_q1(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q1, since=rule_param_extractor["since"])


async def sql_q6(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q6, since=rule_param_extractor["since"], until=rule_param_extractor["until"], size=rule_param_extractor["size"]
    )


async def sql_q3(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q3, segment=rule_param_extractor["segment"], since=rule_param_extractor["since"])


async def sql_q5(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q5,
        region=rule_param_extractor["region"],
        since=rule_param_extractor["since"],
        until=rule_param_extractor["until"],
    )


async def sql_q2(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q2, size=rule_param_extractor["size"], region=rule_param_extractor["region"])


async def sql_q9(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q9, size=rule_param_extractor["size"])


async def sql_q15(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q15, since=rule_param_extractor["since"], until=rule_param_extractor["until"])


async def entry_q1_q6(calls: Calls, rule_param_extractor: Named, sql_q1: Rows, sql_q6: Rows) -> str:
    prompt = f"Pricing: {sql_q1}\nForecast: {sql_q6}\nParameters: {rule_param_extractor}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What do prices and forecast say?", 24)


async def entry_q3_q5(calls: Calls, rule_param_extractor: Named, sql_q3: Rows, sql_q5: Rows) -> str:
    prompt = f"Shipping: {sql_q3}\nNations: {sql_q5}\nParameters: {rule_param_extractor}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Where are the open orders?", 24)


async def entry_q2_q9(calls: Calls, rule_param_extractor: Named, sql_q2: Rows, sql_q9: Rows) -> str:
    prompt = f"Suppliers: {sql_q2}\nStock: {sql_q9}\nParameters: {rule_param_extractor}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Who should supply it?", 24)


async def hub_ops(calls: Calls, row: Row, entry_q1_q6: str, entry_q3_q5: str, http_q12: Any) -> str:
    prompt = f"Modes: {http_q12}\nRequest: {row['request']}\nPrices: {entry_q1_q6}\nOrders: {entry_q3_q5}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}What links them?", 24)


async def hub_full_context(calls: Calls, row: Row, hub_ops: str, entry_q2_q9: str, http_q14: Any) -> str:
    prompt = f"Promotion: {http_q14}\nRequest: {row['request']}\nOperations: {hub_ops}\n"
    prompt += f"Supply: {entry_q2_q9}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Sum this up.", 24)


async def tail_focus(calls: Calls, row: Row, hub_full_context: str) -> str:
    prompt = f"Request: {row['request']}\nSummary: {hub_full_context}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}What is the risk?", 24)


async def tpch_final_answer(calls: Calls, row: Row, hub_full_context: str, tail_focus: str, sql_q15: Rows) -> str:
    prompt = f"Best: {sql_q15}\nRequest: {row['request']}\nSummary: {hub_full_context}\nRisk: {tail_focus}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Write the report.", 32)


W5 = Graph(
    *(rule_param_extractor, http_q12, http_q14, sql_q1, sql_q6, sql_q3, sql_q5, sql_q2, sql_q9, sql_q15),
    *(entry_q1_q6, entry_q3_q5, entry_q2_q9, hub_ops, hub_full_context, tail_focus, tpch_final_answer),
    output="tpch_final_answer",
)


async def http_seg(calls: Calls, rule_param_extractor: Named) -> Any:
    return await calls.http("/segment", segment=rule_param_extractor["segment"], since=rule_param_extractor["since"])


async def http_ship(calls: Calls, rule_param_extractor: Named) -> Any:
    return await calls.http("/ship", region=rule_param_extractor["region"], since=rule_param_extractor["since"])


async def sql_s1_0(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q1, since=rule_param_extractor["since"])


async def sql_s1_1(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q6, since=rule_param_extractor["since"], until=rule_param_extractor["until"], size=rule_param_extractor["size"]
    )


async def sql_s1_2(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q3, segment=rule_param_extractor["segment"], since=rule_param_extractor["since"])


async def sql_s1_3(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q5,
        region=rule_param_extractor["region"],
        since=rule_param_extractor["since"],
        until=rule_param_extractor["until"],
    )


async def sql_s1_4(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q9, size=rule_param_extractor["size"])


async def sql_s2_0(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q1, since=rule_param_extractor["since"])


async def sql_s2_1(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q6, since=rule_param_extractor["since"], until=rule_param_extractor["until"], size=rule_param_extractor["size"]
    )


async def sql_s2_2(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q3, segment=rule_param_extractor["segment"], since=rule_param_extractor["since"])


async def sql_s2_3(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(
        Q5,
        region=rule_param_extractor["region"],
        since=rule_param_extractor["since"],
        until=rule_param_extractor["until"],
    )


async def sql_s2_4(calls: Calls, rule_param_extractor: Named) -> Rows:
    return await calls.sql(Q9, size=rule_param_extractor["size"])


async def s1_q5(
    calls: Calls, rule_param_extractor: Named, sql_s1_0: Rows, sql_s1_1: Rows, sql_s1_2: Rows, sql_s1_3: Rows
) -> str:
    prompt = f"Pricing: {sql_s1_0}\nForecast: {sql_s1_1}\nShipping: {sql_s1_2}\nNations: {sql_s1_3}\n"
    prompt += f"Parameters: {rule_param_extractor}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}What stands out?", 24)


async def s1_q3(calls: Calls, rule_param_extractor: Named, http_seg: Any, http_ship: Any) -> str:
    prompt = f"Segment: {http_seg}\nShipped: {http_ship}\nParameters: {rule_param_extractor}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What stands out?", 24)


async def s1_q1(calls: Calls, rule_param_extractor: Named, sql_s1_4: Rows) -> str:
    return await calls.llm("b", SYSTEM, f"Worth: {sql_s1_4}\nParameters: {rule_param_extractor}\nWhat stands out?", 24)


async def s1_q0a(calls: Calls, rule_param_extractor: Named) -> str:
    return await calls.llm("c", SYSTEM, f"Parameters: {rule_param_extractor}\nPlan the figures of the report.", 16)


async def s1_q0b(calls: Calls, rule_param_extractor: Named) -> str:
    return await calls.llm("c", SYSTEM, f"Parameters: {rule_param_extractor}\nPlan the text of the report.", 16)


async def s2_q5(  # noqa: PLR0913 - a step reads what it reads in Halo
    calls: Calls,
    row: Row,
    s1_q5: str,
    s1_q3: str,
    s1_q1: str,
    s1_q0a: str,
    s1_q0b: str,
    sql_s2_0: Rows,
    sql_s2_1: Rows,
    sql_s2_2: Rows,
    sql_s2_3: Rows,
) -> str:
    prompt = f"Pricing: {sql_s2_0}\nForecast: {sql_s2_1}\nShipping: {sql_s2_2}\nNations: {sql_s2_3}\n"
    prompt += f"Request: {row['request']}\nFigures: {s1_q5}\nReports: {s1_q3}\nStock: {s1_q1}\nPlan: {s1_q0a}\n"
    prompt += f"Outline: {s1_q0b}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Explain the figures.", 24)


async def s2_q1(
    calls: Calls, row: Row, s1_q5: str, s1_q3: str, s1_q1: str, s1_q0a: str, s1_q0b: str, sql_s2_4: Rows
) -> str:
    prompt = f"Worth: {sql_s2_4}\nRequest: {row['request']}\nFigures: {s1_q5}\nReports: {s1_q3}\n"
    prompt += f"Stock: {s1_q1}\nPlan: {s1_q0a}\nOutline: {s1_q0b}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Explain the stock.", 24)


async def s2_narrative(calls: Calls, row: Row, s1_q5: str, s1_q3: str, s1_q1: str, s1_q0a: str, s1_q0b: str) -> str:
    prompt = f"Request: {row['request']}\nFigures: {s1_q5}\nReports: {s1_q3}\nStock: {s1_q1}\nPlan: {s1_q0a}\n"
    prompt += f"Outline: {s1_q0b}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Tell the story.", 32)


async def final_merger(calls: Calls, row: Row, s2_q5: str, s2_q1: str, s2_narrative: str) -> str:
    prompt = f"Request: {row['request']}\nFigures: {s2_q5}\nStock: {s2_q1}\nStory: {s2_narrative}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Write the report.", 32)


W6 = Graph(
    *(rule_param_extractor, http_seg, http_ship, sql_s1_0, sql_s1_1, sql_s1_2, sql_s1_3, sql_s1_4),
    *(sql_s2_0, sql_s2_1, sql_s2_2, sql_s2_3, sql_s2_4),
    *(s1_q5, s1_q3, s1_q1, s1_q0a, s1_q0b, s2_q5, s2_q1, s2_narrative, final_merger),
    output="final_merger",
)
