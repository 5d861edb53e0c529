"""The earlier graphs of W1 and W2: questions about films. Twins of flows/early_w1.yaml and
flows/early_w2.yaml."""

from __future__ import annotations

from typing import Any

from halo.graph import Calls, Graph, Row, Rows

SYSTEM = "You answer questions about films. Use only the facts that are given and keep it short."


async def films(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select title, year, runtime, genre from film where lower(title) like :pattern order by year desc, id limit 4",
        pattern=f"%{row['keyword']}%",
    )


async def ratings(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select f.title, r.meter, r.reviews from film f join review r on r.film_id = f.id"
        " where lower(f.title) like :pattern and r.meter is not null order by r.meter desc, f.id limit 4",
        pattern=f"%{row['keyword']}%",
    )


async def awards(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select title, oscars from film where lower(title) like :pattern order by oscars desc, id limit 3",
        pattern=f"%{row['keyword']}%",
    )


async def cast(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select c.name, count(*) as num_films from credit c join film f on f.id = c.film_id"
        " where c.role = 'cast' and lower(f.title) like :pattern"
        " group by c.name order by num_films desc, c.name limit 6",
        pattern=f"%{row['keyword']}%",
    )


async def directors(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select c.name, min(f.year) as first_year from credit c join film f on f.id = c.film_id"
        " where c.role = 'director' and lower(f.title) like :pattern"
        " group by c.name order by first_year, c.name limit 4",
        pattern=f"%{row['keyword']}%",
    )


async def languages(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select language, country, count(*) as num_films from film where lower(title) like :pattern"
        " group by language, country order by num_films desc, language, country limit 4",
        pattern=f"%{row['keyword']}%",
    )


async def studios(calls: Calls, row: Row) -> Rows:
    return await calls.sql(
        "select r.studio, sum(r.box_office) as box_office from film f join review r on r.film_id = f.id"
        " where lower(f.title) like :pattern and r.studio is not null group by r.studio order by r.studio limit 3",
        pattern=f"%{row['keyword']}%",
    )


async def screenings(calls: Calls, row: Row) -> Any:
    return await calls.http("/screenings", keyword=row["keyword"])


async def news(calls: Calls, row: Row) -> Any:
    return await calls.http("/news", keyword=row["keyword"])


async def plan(calls: Calls, row: Row) -> str:
    return await calls.llm("a", SYSTEM, f"Question: {row['question']}\nWhich facts are needed for it?", 16)


async def movie(calls: Calls, row: Row, plan: str, films: Rows, ratings: Rows, awards: Rows) -> str:
    prompt = f"Films: {films}\nRatings: {ratings}\nAwards: {awards}\nQuestion: {row['question']}\nPlan: {plan}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Describe the films that matter.", 24)


async def people(calls: Calls, row: Row, plan: str, cast: Rows, directors: Rows) -> str:
    prompt = f"Cast: {cast}\nDirectors: {directors}\nQuestion: {row['question']}\nPlan: {plan}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Describe the people that matter.", 24)


async def titles(calls: Calls, row: Row, plan: str, languages: Rows) -> str:
    prompt = f"Languages: {languages}\nQuestion: {row['question']}\nPlan: {plan}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Which other titles may these films have?", 24)


async def hub1(calls: Calls, row: Row, cast: Rows, directors: Rows, movie: str, people: str, screenings: Any) -> str:
    prompt = f"Cast: {cast}\nDirectors: {directors}\nQuestion: {row['question']}\nFilms: {movie}\nPeople: {people}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Screenings: {screenings}\nWhat connects them?", 24)


async def hub2(
    calls: Calls, row: Row, films: Rows, ratings: Rows, awards: Rows, hub1: str, titles: str, studios: Rows
) -> str:
    prompt = f"Films: {films}\nRatings: {ratings}\nAwards: {awards}\nQuestion: {row['question']}\nFacts: {hub1}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Titles: {titles}\nStudios: {studios}\nSum this up.", 24)


async def tail(calls: Calls, row: Row, languages: Rows, hub2: str, news: Any) -> str:
    prompt = f"Languages: {languages}\nQuestion: {row['question']}\nSummary: {hub2}\nNews: {news}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}What would a reader still ask?", 24)


async def answer(calls: Calls, row: Row, hub1: str, hub2: str, tail: str) -> str:
    prompt = f"Question: {row['question']}\nFacts: {hub1}\nSummary: {hub2}\nOpen: {tail}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Answer the question.", 32)


W1 = Graph(
    *(films, ratings, awards, cast, directors, languages, studios, screenings, news),
    *(plan, movie, people, titles, hub1, hub2, tail, answer),
    output="answer",
)


async def outline(calls: Calls, row: Row) -> str:
    return await calls.llm("b", SYSTEM, f"Question: {row['question']}\nSplit it into films, people and crew.", 16)


async def movie1(calls: Calls, row: Row, outline: str, films: Rows) -> str:
    prompt = f"Films: {films}\nQuestion: {row['question']}\nOutline: {outline}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Which of the films matter?", 24)


async def movie2(calls: Calls, row: Row, outline: str, films: Rows, movie1: str) -> str:
    prompt = f"Films: {films}\nQuestion: {row['question']}\nOutline: {outline}\nChosen: {movie1}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Say why.", 24)


async def people1(calls: Calls, row: Row, outline: str, cast: Rows) -> str:
    prompt = f"Cast: {cast}\nQuestion: {row['question']}\nOutline: {outline}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Which of the people matter?", 24)


async def people2(calls: Calls, row: Row, outline: str, cast: Rows, people1: str) -> str:
    prompt = f"Cast: {cast}\nQuestion: {row['question']}\nOutline: {outline}\nChosen: {people1}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Say why.", 24)


async def crew1(calls: Calls, row: Row, outline: str, news: Any) -> str:
    prompt = f"News: {news}\nQuestion: {row['question']}\nOutline: {outline}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What does the news say of the crew?", 24)


async def crew2(calls: Calls, row: Row, outline: str, news: Any, crew1: str) -> str:
    prompt = f"News: {news}\nQuestion: {row['question']}\nOutline: {outline}\nCrew: {crew1}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}What is missing?", 24)


async def crew3(calls: Calls, row: Row, outline: str, news: Any, crew1: str, crew2: str) -> str:
    prompt = f"News: {news}\nQuestion: {row['question']}\nOutline: {outline}\nCrew: {crew1}\nMissing: {crew2}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Say it in one sentence.", 24)


async def sanity(calls: Calls, row: Row, outline: str) -> str:
    prompt = f"Question: {row['question']}\nOutline: {outline}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Is the outline sound?", 16)


async def merge(calls: Calls, row: Row, movie2: str, people2: str, crew3: str, sanity: str) -> str:
    prompt = f"Question: {row['question']}\nFilms: {movie2}\nPeople: {people2}\nCrew: {crew3}\nCheck: {sanity}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Answer the question.", 32)


W2 = Graph(
    *(films, cast, news, outline, movie1, movie2, people1, people2, crew1, crew2, crew3, sanity, merge),
    output="merge",
)
