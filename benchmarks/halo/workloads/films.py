"""W1 and W2: questions about films. Twins of flows/w1.yaml and flows/w2.yaml, with the graphs of Halo's IMDb workloads.

Look-ups wait for the planner, as published, but take the word from the row: what a small model answers is no word.
"""

from __future__ import annotations

from typing import Any

from halo.graph import Calls, Graph, Row, Rows

SYSTEM = "You answer questions about films. Use only the facts that are given and keep it short."
FILMS = "select title, year, runtime, genre from film where lower(title) like :pattern order by year desc, id limit 4"
CAST = (
    "select c.name, count(*) as num_films from credit c join film f on f.id = c.film_id"
    " where c.role = 'cast' and lower(f.title) like :pattern group by c.name"
    " order by num_films desc, c.name limit 6"
)
CREW = (
    "select c.role, c.name, min(f.year) as first_year from credit c join film f on f.id = c.film_id"
    " where c.role <> 'cast' and lower(f.title) like :pattern group by c.role, c.name"
    " order by first_year, c.name, c.role limit 4"
)
TITLES = "select title, language from film where lower(title) like :pattern order by title, id limit 6"
REGIONS = (
    "select language, country, count(*) as num_films from film where lower(title) like :pattern"
    " group by language, country order by num_films desc, language, country limit 4"
)
RATINGS = (
    "select f.title, r.meter, r.reviews from film f join review r on r.film_id = f.id"
    " where lower(f.title) like :pattern and r.meter is not null order by r.meter desc, f.id limit 4"
)
GENRES = (
    "select genre, count(*) as num_films from film where lower(title) like :pattern and genre is not null"
    " group by genre order by num_films desc, genre limit 4"
)


async def keyword_planner(calls: Calls, row: Row) -> str:
    return await calls.llm("b", SYSTEM, f"Question: {row['question']}\nWhich word should be looked up?", 16)


async def http_entry_movie_by_title(calls: Calls, row: Row, keyword_planner: str) -> Any:
    return await calls.http("/movie", keyword=row["keyword"])


async def http_entry_movie_recent(calls: Calls, row: Row, keyword_planner: str) -> Any:
    return await calls.http("/recent", keyword=row["keyword"])


async def sql_person_name(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(CAST, pattern=f"%{row['keyword']}%")


async def sql_person_prof(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    """Return who made the films: the role of a credit stands for a profession."""
    return await calls.sql(CREW, pattern=f"%{row['keyword']}%")


async def sql_akas_title(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    """Return the titles that share the word: the data has no other titles of one film."""
    return await calls.sql(TITLES, pattern=f"%{row['keyword']}%")


async def sql_akas_region(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(REGIONS, pattern=f"%{row['keyword']}%")


async def sql_hub_stats(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    """Return the reviews, which stand for ratings and votes."""
    return await calls.sql(RATINGS, pattern=f"%{row['keyword']}%")


async def sql_hub_genre(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(GENRES, pattern=f"%{row['keyword']}%")


async def sql_final_titles(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(FILMS, pattern=f"%{row['keyword']}%")


async def entry_movie(
    calls: Calls, row: Row, keyword_planner: str, http_entry_movie_by_title: Any, http_entry_movie_recent: Any
) -> str:
    prompt = f"Films: {http_entry_movie_by_title}\nRecent: {http_entry_movie_recent}\n"
    prompt += f"Question: {row['question']}\nWord: {keyword_planner}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Describe the films that matter.", 24)


async def entry_person(
    calls: Calls, row: Row, keyword_planner: str, sql_person_name: Rows, sql_person_prof: Rows
) -> str:
    prompt = f"Cast: {sql_person_name}\nCrew: {sql_person_prof}\nQuestion: {row['question']}\n"
    prompt += f"Word: {keyword_planner}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Describe the people that matter.", 24)


async def entry_akas(calls: Calls, row: Row, keyword_planner: str, sql_akas_title: Rows, sql_akas_region: Rows) -> str:
    prompt = f"Titles: {sql_akas_title}\nLanguages: {sql_akas_region}\nQuestion: {row['question']}\n"
    prompt += f"Word: {keyword_planner}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Which other titles may these films have?", 24)


async def hub_movie_person(calls: Calls, row: Row, entry_movie: str, entry_person: str, sql_hub_stats: Rows) -> str:
    prompt = f"Ratings: {sql_hub_stats}\nQuestion: {row['question']}\nFilms: {entry_movie}\n"
    prompt += f"People: {entry_person}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}What connects them?", 24)


async def hub_full_context(calls: Calls, row: Row, hub_movie_person: str, entry_akas: str, sql_hub_genre: Rows) -> str:
    prompt = f"Genres: {sql_hub_genre}\nQuestion: {row['question']}\nFacts: {hub_movie_person}\n"
    prompt += f"Titles: {entry_akas}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Sum this up.", 24)


async def tail_focus(calls: Calls, row: Row, hub_full_context: str) -> str:
    prompt = f"Question: {row['question']}\nSummary: {hub_full_context}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}What would a reader still ask?", 24)


async def imdb_final_answer(
    calls: Calls, row: Row, hub_full_context: str, tail_focus: str, sql_final_titles: Rows
) -> str:
    prompt = f"Films: {sql_final_titles}\nQuestion: {row['question']}\nSummary: {hub_full_context}\n"
    prompt += f"Open: {tail_focus}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Answer the question.", 32)


W1 = Graph(
    *(http_entry_movie_by_title, http_entry_movie_recent, sql_person_name, sql_person_prof, sql_akas_title),
    *(sql_akas_region, sql_hub_stats, sql_hub_genre, sql_final_titles),
    *(keyword_planner, entry_movie, entry_person, entry_akas, hub_movie_person, hub_full_context),
    *(tail_focus, imdb_final_answer),
    output="imdb_final_answer",
)


async def http_people_overview(calls: Calls, row: Row, keyword_planner: str) -> Any:
    return await calls.http("/people", keyword=row["keyword"])


async def sql_movie(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(FILMS, pattern=f"%{row['keyword']}%")


async def sql_crew(calls: Calls, row: Row, keyword_planner: str) -> Rows:
    return await calls.sql(CREW, pattern=f"%{row['keyword']}%")


async def movie_overview(calls: Calls, row: Row, keyword_planner: str, sql_movie: Rows) -> str:
    prompt = f"Films: {sql_movie}\nQuestion: {row['question']}\nWord: {keyword_planner}\n"
    return await calls.llm("c", SYSTEM, f"{prompt}Which of the films matter?", 24)


async def movie_final_notes(calls: Calls, row: Row, movie_overview: str) -> str:
    return await calls.llm("c", SYSTEM, f"Question: {row['question']}\nFilms: {movie_overview}\nSay why.", 24)


async def people_overview(calls: Calls, row: Row, keyword_planner: str, http_people_overview: Any) -> str:
    prompt = f"People: {http_people_overview}\nQuestion: {row['question']}\nWord: {keyword_planner}\n"
    return await calls.llm("b", SYSTEM, f"{prompt}Which of the people matter?", 24)


async def people_final_notes(calls: Calls, row: Row, people_overview: str) -> str:
    return await calls.llm("b", SYSTEM, f"Question: {row['question']}\nPeople: {people_overview}\nSay why.", 24)


async def crew_overview(calls: Calls, row: Row, keyword_planner: str, sql_crew: Rows) -> str:
    prompt = f"Crew: {sql_crew}\nQuestion: {row['question']}\nWord: {keyword_planner}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Who made the films?", 24)


async def crew_insights(calls: Calls, row: Row, crew_overview: str) -> str:
    return await calls.llm("a", SYSTEM, f"Question: {row['question']}\nCrew: {crew_overview}\nWhat is missing?", 24)


async def crew_final_notes(calls: Calls, row: Row, crew_insights: str) -> str:
    prompt = f"Question: {row['question']}\nInsights: {crew_insights}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Say it in one sentence.", 24)


async def small_sanity_check(calls: Calls, row: Row) -> str:
    return await calls.llm("c", SYSTEM, f"Question: {row['question']}\nCan this question be answered?", 16)


async def final_answer(
    calls: Calls,
    row: Row,
    keyword_planner: str,
    small_sanity_check: str,
    movie_final_notes: str,
    people_final_notes: str,
    crew_final_notes: str,
) -> str:
    prompt = f"Question: {row['question']}\nWord: {keyword_planner}\nCheck: {small_sanity_check}\n"
    prompt += f"Films: {movie_final_notes}\nPeople: {people_final_notes}\nCrew: {crew_final_notes}\n"
    return await calls.llm("a", SYSTEM, f"{prompt}Answer the question.", 32)


W2 = Graph(
    *(http_people_overview, sql_movie, sql_crew),
    *(keyword_planner, movie_overview, movie_final_notes, people_overview, people_final_notes),
    *(crew_overview, crew_insights, crew_final_notes, small_sanity_check, final_answer),
    output="final_answer",
)
