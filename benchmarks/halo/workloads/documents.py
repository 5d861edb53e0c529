"""W3 and W4: articles about a topic, found by full-text search. Twins of flows/w3.yaml and flows/w4.yaml, with the
graphs of Halo's FineWiki workloads."""

from __future__ import annotations

from typing import Any

from halo.graph import Calls, Graph, Row, Rows
from halo.workloads.dialect import SEARCH

SYSTEM = "You write about the Python standard library. Use only the texts that are given and keep it short."
BODY = "select substr(body, 1, 600) as body from document where title = :title"
FOUND = f"select title, kind from document where {SEARCH} order by title, id limit 6"
LONGEST = f"select title, num_words from document where {SEARCH} order by num_words desc, id limit 4"
MODULES = (
    f"select module, count(*) as num_documents from document where {SEARCH} group by module"
    " order by num_documents desc, module limit 5"
)
SNIPPETS = f"select title, substr(body, 1, 120) as snippet from document where {SEARCH} order by num_words, id limit 3"


async def http_category(calls: Calls, row: Row) -> Any:
    return await calls.http("/category", title=row["title"])


async def http_outbound(calls: Calls, row: Row) -> Any:
    return await calls.http("/outbound", title=row["title"])


async def sql_fulltext(calls: Calls, row: Row) -> Rows:
    return await calls.sql(FOUND, words=row["word"])


async def sql_title(calls: Calls, row: Row) -> Rows:
    return await calls.sql(BODY, title=row["title"])


async def sql_timeline(calls: Calls, row: Row) -> Rows:
    """Return the longest documents: they have no dates."""
    return await calls.sql(LONGEST, words=row["word"])


async def sql_snippets(calls: Calls, row: Row) -> Rows:
    return await calls.sql(SNIPPETS, words=row["word"])


async def global_topic_expander(calls: Calls, row: Row, sql_fulltext: Rows, sql_title: Rows) -> str:
    prompt = f"Article: {sql_title}\nBeside it: {sql_fulltext}\nTitle: {row['title']}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}What belongs to this topic?", 24)


async def timeline_refiner_1(calls: Calls, row: Row, global_topic_expander: str, sql_timeline: Rows) -> str:
    prompt = f"Documents: {sql_timeline}\nTitle: {row['title']}\nTopic: {global_topic_expander}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}In which order should they be read?", 24)


async def timeline_refiner_2(calls: Calls, row: Row, timeline_refiner_1: str) -> str:
    return await calls.llm("b", SYSTEM, f"Title: {row['title']}\nOrder: {timeline_refiner_1}\nImprove it.", 24)


async def category_overview(calls: Calls, row: Row, http_category: Any) -> str:
    prompt = f"Category: {http_category}\nTitle: {row['title']}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}In which categories does it belong?", 24)


async def category_drilldown(calls: Calls, row: Row, category_overview: str) -> str:
    prompt = f"Title: {row['title']}\nCategories: {category_overview}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Name the best one.", 16)


async def outbound_link_view(calls: Calls, row: Row, http_outbound: Any) -> str:
    prompt = f"Links: {http_outbound}\nTitle: {row['title']}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Which links help a reader?", 24)


async def inbound_link_view(calls: Calls, row: Row, outbound_link_view: str, global_topic_expander: str) -> str:
    prompt = f"Title: {row['title']}\nTopic: {global_topic_expander}\nLinks: {outbound_link_view}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What should link to it?", 24)


async def narrow_focus_rewriter(calls: Calls, row: Row) -> str:
    return await calls.llm("b", SYSTEM, f"Title: {row['title']}\nAsk for less than the title says.", 24)


async def final_answer_summarizer(  # noqa: PLR0913 - a step reads what it reads in Halo
    calls: Calls,
    row: Row,
    global_topic_expander: str,
    timeline_refiner_2: str,
    category_drilldown: str,
    outbound_link_view: str,
    inbound_link_view: str,
    narrow_focus_rewriter: str,
    sql_snippets: Rows,
) -> str:
    prompt = f"Snippets: {sql_snippets}\nTitle: {row['title']}\nTopic: {global_topic_expander}\n"
    prompt += f"Order: {timeline_refiner_2}\nCategory: {category_drilldown}\nLinks: {outbound_link_view}\n"
    prompt += f"Linked from: {inbound_link_view}\nFocus: {narrow_focus_rewriter}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Write the page.", 32)


W3 = Graph(
    *(http_category, http_outbound, sql_fulltext, sql_title, sql_timeline, sql_snippets),
    *(global_topic_expander, timeline_refiner_1, timeline_refiner_2, category_overview, category_drilldown),
    *(outbound_link_view, inbound_link_view, narrow_focus_rewriter, final_answer_summarizer),
    output="final_answer_summarizer",
)


async def sql_a0(calls: Calls, row: Row) -> Rows:
    return await calls.sql(BODY, title=row["title"])


async def sql_c1(calls: Calls, row: Row) -> Rows:
    return await calls.sql(MODULES, words=row["word"])


async def a0(calls: Calls, row: Row, sql_a0: Rows) -> str:
    return await calls.llm("b", SYSTEM, f"Article: {sql_a0}\nTitle: {row['title']}\nWhat is it about?", 24)


async def a1(calls: Calls, row: Row, a0: str) -> str:
    return await calls.llm("b", SYSTEM, f"Title: {row['title']}\nAbout: {a0}\nWho needs it?", 24)


async def a2(calls: Calls, row: Row, a1: str) -> str:
    return await calls.llm("b", SYSTEM, f"Title: {row['title']}\nReaders: {a1}\nWhat should they read first?", 24)


async def b1(calls: Calls, a1: str, http_category: Any) -> str:
    prompt = f"Category: {http_category}\nReaders: {a1}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}In which categories does it belong?", 24)


async def b2(calls: Calls, row: Row, b1: str) -> str:
    return await calls.llm("c", SYSTEM, f"Title: {row['title']}\nCategories: {b1}\nName the best one.", 16)


async def c1(calls: Calls, a0: str, sql_c1: Rows) -> str:
    return await calls.llm("a", SYSTEM, f"Modules: {sql_c1}\nAbout: {a0}\nWhich terms need another word?", 24)


async def c2(calls: Calls, row: Row, c1: str) -> str:
    return await calls.llm("a", SYSTEM, f"Title: {row['title']}\nTerms: {c1}\nExplain them.", 24)


async def s0(calls: Calls, row: Row, a2: str, b2: str, c2: str) -> str:
    prompt = f"Title: {row['title']}\nFirst: {a2}\nCategory: {b2}\nTerms: {c2}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Write an example.", 32)


async def final_answer_bridge(calls: Calls, row: Row, a2: str, s0: str) -> str:
    return await calls.llm("a", SYSTEM, f"Title: {row['title']}\nFirst: {a2}\nExample: {s0}\nWrite the page.", 32)


W4 = Graph(
    *(http_category, sql_a0, sql_c1),
    *(a0, a1, a2, b1, b2, c1, c2, s0, final_answer_bridge),
    output="final_answer_bridge",
)
