"""The earlier graphs of W5 and W6: reports about sales. Twins of flows/early_w5.yaml and
flows/early_w6.yaml."""

from __future__ import annotations

from typing import Any

from halo.flows.parameters import read
from halo.graph import Calls, Graph, Row, Rows
from halo.workloads.queries import Q1, Q2, Q3, Q5, Q6, Q9, Q15

SYSTEM = "You analyse sales figures for a wholesaler. Use only the figures that are given and keep it short."
Named = dict[str, Any]


async def named(row: Row) -> Named:
    return read(row["request"])


async def pricing(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q1, since=named["since"])


async def forecast(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q6, since=named["since"], until=named["until"], size=named["size"])


async def shipping(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q3, segment=named["segment"], since=named["since"])


async def local(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q5, region=named["region"], since=named["since"], until=named["until"])


async def cheapest(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q2, size=named["size"], region=named["region"])


async def stock(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q9, size=named["size"])


async def best(calls: Calls, named: Named) -> Rows:
    return await calls.sql(Q15, since=named["since"], until=named["until"])


async def modes(calls: Calls, named: Named) -> Any:
    return await calls.http("/q12", region=named["region"], since=named["since"])


async def promotion(calls: Calls, named: Named) -> Any:
    return await calls.http("/q14", segment=named["segment"], since=named["since"])


async def entry1(calls: Calls, row: Row, pricing: Rows, forecast: Rows) -> str:
    prompt = f"Pricing: {pricing}\nForecast: {forecast}\nRequest: {row['request']}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What do prices and forecast say?", 24)


async def entry2(calls: Calls, row: Row, shipping: Rows, local: Rows) -> str:
    prompt = f"Shipping: {shipping}\nNations: {local}\nRequest: {row['request']}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Where are the open orders?", 24)


async def entry3(calls: Calls, row: Row, cheapest: Rows, stock: Rows) -> str:
    prompt = f"Suppliers: {cheapest}\nStock: {stock}\nRequest: {row['request']}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Who should supply it?", 24)


async def hub1(calls: Calls, row: Row, pricing: Rows, forecast: Rows, modes: Any, entry1: str, entry2: str) -> str:
    prompt = f"Pricing: {pricing}\nForecast: {forecast}\nRequest: {row['request']}\nPrices: {entry1}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Orders: {entry2}\nModes: {modes}\nWhat links them?", 24)


async def hub2(calls: Calls, row: Row, shipping: Rows, local: Rows, promotion: Any, entry2: str, entry3: str) -> str:
    prompt = f"Shipping: {shipping}\nNations: {local}\nRequest: {row['request']}\nOrders: {entry2}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Supply: {entry3}\nPromotion: {promotion}\nWhat links them?", 24)


async def tail(calls: Calls, row: Row, cheapest: Rows, stock: Rows, hub1: str, hub2: str) -> str:
    prompt = f"Suppliers: {cheapest}\nStock: {stock}\nRequest: {row['request']}\nOne: {hub1}\nTwo: {hub2}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}What is the risk?", 24)


async def answer(calls: Calls, row: Row, best: Rows, hub1: str, hub2: str, tail: str) -> str:
    prompt = f"Best: {best}\nRequest: {row['request']}\nOne: {hub1}\nTwo: {hub2}\nRisk: {tail}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Write the report.", 32)


W5 = Graph(
    *(named, pricing, forecast, shipping, local, cheapest, stock, best, modes, promotion),
    *(entry1, entry2, entry3, hub1, hub2, tail, answer),
    output="answer",
)


async def pricing2(calls: Calls, named: Named, pack: str) -> Rows:
    return await calls.sql(Q1, since=named["since"])


async def forecast2(calls: Calls, named: Named, pack: str) -> Rows:
    return await calls.sql(Q6, since=named["since"], until=named["until"], size=named["size"])


async def shipping2(calls: Calls, named: Named, pack: str) -> Rows:
    return await calls.sql(Q3, segment=named["segment"], since=named["since"])


async def local2(calls: Calls, named: Named, pack: str) -> Rows:
    return await calls.sql(Q5, region=named["region"], since=named["since"], until=named["until"])


async def stock2(calls: Calls, named: Named, single: str) -> Rows:
    return await calls.sql(Q9, size=named["size"])


async def pack(calls: Calls, row: Row, pricing: Rows, forecast: Rows, shipping: Rows, local: Rows) -> str:
    prompt = f"Pricing: {pricing}\nForecast: {forecast}\nShipping: {shipping}\nNations: {local}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Request: {row['request']}\nWhat stands out?", 24)


async def web(calls: Calls, row: Row, modes: Any, promotion: Any) -> str:
    prompt = f"Modes: {modes}\nPromotion: {promotion}\nRequest: {row['request']}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What stands out?", 24)


async def single(calls: Calls, row: Row, stock: Rows) -> str:
    return await calls.llm("b", SYSTEM, f"Stock: {stock}\nRequest: {row['request']}\nWhat stands out?", 24)


async def planner1(calls: Calls, row: Row) -> str:
    return await calls.llm("c", SYSTEM, f"Request: {row['request']}\nPlan the figures of the report.", 16)


async def planner2(calls: Calls, row: Row) -> str:
    return await calls.llm("c", SYSTEM, f"Request: {row['request']}\nPlan the text of the report.", 16)


async def deep1(
    calls: Calls, row: Row, pricing2: Rows, forecast2: Rows, shipping2: Rows, local2: Rows, pack: str, planner1: str
) -> str:
    prompt = f"Pricing: {pricing2}\nForecast: {forecast2}\nShipping: {shipping2}\nNations: {local2}\n"
    prompt += f"Request: {row['request']}\nSeen: {pack}\nPlan: {planner1}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Explain the figures.", 24)


async def deep2(calls: Calls, row: Row, stock2: Rows, single: str, web: str) -> str:
    prompt = f"Stock: {stock2}\nRequest: {row['request']}\nSeen: {single}\nReports: {web}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Explain the stock.", 24)


async def narrative(calls: Calls, row: Row, pack: str, web: str, single: str, planner2: str) -> str:
    prompt = f"Request: {row['request']}\nFigures: {pack}\nReports: {web}\nStock: {single}\nPlan: {planner2}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Tell the story.", 32)


async def merger(calls: Calls, row: Row, deep1: str, deep2: str, narrative: str) -> str:
    prompt = f"Request: {row['request']}\nFigures: {deep1}\nStock: {deep2}\nStory: {narrative}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Write the report.", 32)


W6 = Graph(
    *(named, pricing, forecast, shipping, local, stock, modes, promotion),
    *(pack, web, single, planner1, planner2),
    *(pricing2, forecast2, shipping2, local2, stock2, deep1, deep2, narrative, merger),
    output="merger",
)
