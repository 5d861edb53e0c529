"""The earlier graphs of W3 and W4: articles about a topic, found by full-text search. Twins of
flows/early_w3.yaml and flows/early_w4.yaml."""

from __future__ import annotations

from typing import Any

from halo.graph import Calls, Graph, Row, Rows
from halo.workloads.dialect import SEARCH

SYSTEM = "You write about the Python standard library. Use only the texts that are given and keep it short."


async def article(calls: Calls, row: Row) -> Rows:
    return await calls.sql("select substr(body, 1, 600) as body from document where title = :title", title=row["title"])


async def longest(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        f"select title, num_words from document where {SEARCH} order by num_words desc, id limit 4", words=row["word"]
    )


async def first(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        f"select title, kind from document where {SEARCH} order by title, id limit 6", words=row["word"]
    )


async def modules(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        f"select module, count(*) as num_documents from document where {SEARCH}"
        " group by module order by num_documents desc, module limit 5",
        words=row["word"],
    )


async def releases(calls: Calls, row: Row) -> Any:
    return await calls.http("/releases", title=row["title"])


async def links(calls: Calls, row: Row) -> Any:
    return await calls.http("/links", title=row["title"])


async def expand(calls: Calls, row: Row, article: Rows) -> str:
    return await calls.llm("a", SYSTEM, f"Article: {article}\nTitle: {row['title']}\nWhat belongs to this topic?", 24)


async def timeline1(calls: Calls, row: Row, article: Rows, releases: Any, expand: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nReleases: {releases}\nTopic: {expand}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Write a timeline.", 24)


async def timeline2(calls: Calls, row: Row, article: Rows, releases: Any, expand: str, timeline1: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nReleases: {releases}\nTopic: {expand}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Timeline: {timeline1}\nImprove it.", 24)


async def category1(calls: Calls, row: Row, article: Rows, modules: Rows, first: Rows, expand: str) -> str:
    prompt = f"Article: {article}\nModules: {modules}\nBeside it: {first}\nTopic: {expand}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}In which categories does it belong?", 24)


async def category2(calls: Calls, article: Rows, modules: Rows, first: Rows, expand: str, category1: str) -> str:
    prompt = f"Article: {article}\nModules: {modules}\nBeside it: {first}\nTopic: {expand}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Categories: {category1}\nName the best one.", 16)


async def link1(calls: Calls, row: Row, article: Rows, links: Any, longest: Rows, expand: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nLinks: {links}\nLongest: {longest}\nTopic: {expand}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Which links help a reader?", 24)


async def link2(calls: Calls, row: Row, article: Rows, links: Any, longest: Rows, expand: str, link1: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nLinks: {links}\nLongest: {longest}\nTopic: {expand}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Chosen: {link1}\nOrder them.", 24)


async def rewrite(
    calls: Calls, row: Row, article: Rows, releases: Any, timeline2: str, category2: str, link2: str
) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nReleases: {releases}\nTimeline: {timeline2}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Category: {category2}\nLinks: {link2}\nWrite it anew.", 32)


async def summary(calls: Calls, row: Row, article: Rows, rewrite: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nNew text: {rewrite}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Sum it up in one sentence.", 24)


W3 = Graph(
    *(article, longest, first, modules, releases, links),
    *(expand, timeline1, timeline2, category1, category2, link1, link2, rewrite, summary),
    output="summary",
)


async def a0(calls: Calls, row: Row, article: Rows) -> str:
    return await calls.llm("b", SYSTEM, f"Article: {article}\nTitle: {row['title']}\nWhat is it about?", 24)


async def a1(calls: Calls, row: Row, article: Rows, a0: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nAbout: {a0}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Who needs it?", 24)


async def a2(calls: Calls, row: Row, article: Rows, a0: str, a1: str) -> str:
    prompt = f"Article: {article}\nTitle: {row['title']}\nAbout: {a0}\nReaders: {a1}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}What should they read first?", 24)


async def b1(calls: Calls, modules: Rows, a1: str) -> str:
    return await calls.llm("c", SYSTEM, f"Modules: {modules}\nReaders: {a1}\nIn which categories does it belong?", 24)


async def b2(calls: Calls, modules: Rows, a1: str, b1: str) -> str:
    prompt = f"Modules: {modules}\nReaders: {a1}\nCategories: {b1}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Name the best one.", 16)


async def c1(calls: Calls, row: Row, article: Rows, links: Any, a0: str) -> str:
    prompt = f"Article: {article}\nLinks: {links}\nAbout: {a0}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Which terms need another word?", 24)


async def c2(calls: Calls, article: Rows, links: Any, a0: str, c1: str) -> str:
    prompt = f"Article: {article}\nLinks: {links}\nAbout: {a0}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Terms: {c1}\nExplain them.", 24)


async def sample(calls: Calls, article: Rows, links: Any, a2: str, b2: str, c2: str) -> str:
    prompt = f"Article: {article}\nLinks: {links}\nFirst: {a2}\nCategory: {b2}\nTerms: {c2}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Write an example.", 32)


async def final(calls: Calls, article: Rows, links: Any, a2: str, b2: str, sample: str) -> str:
    prompt = f"Article: {article}\nLinks: {links}\nFirst: {a2}\nCategory: {b2}\nExample: {sample}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Write the page.", 32)


W4 = Graph(article, modules, links, a0, a1, a2, b1, b2, c1, c2, sample, final, output="final")
