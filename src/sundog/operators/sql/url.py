"""Database URLs: what may stand in one, what a plan may know of it, and its secrets.

Owns parsing and checking. Never connects. A secret in a URL stands for one part of it (user, password, host, database
or a query value) and is put in as it is: it needs no percent-encoding.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from sundog.errors import FlowError
from sundog.operators.arguments import reveal_text
from sundog.secrets import PATTERN, Secrets

# Private-use characters: `${env:NAME}` holds a colon, which a URL reads as its own.
_MARK = re.compile("\ue000(\\w+)\ue001")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(\+[A-Za-z0-9_]+)?://")

FILE_BACKENDS = ("sqlite", "duckdb")
"""The databases that are a file."""

# The names that SQLAlchemy does not know.
_OTHER_NAMES = {"postgres": "postgresql+psycopg", "sqlserver": "mssql+pyodbc", "sqlite3": "sqlite", "pg": "postgresql"}
_DIALECT_PACKAGES = {
    "bigquery": "sqlalchemy-bigquery",
    "clickhouse": "clickhouse-sqlalchemy",
    "databricks": "databricks-sqlalchemy",
    "redshift": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
    "trino": "trino[sqlalchemy]",
}
_DRIVER_PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
_OTHER_DRIVERS = {
    "postgresql": {"postgresql+psycopg": "psycopg", "postgresql+psycopg2": "psycopg2", "postgresql+pg8000": "pg8000"},
    "mysql": {"mysql+pymysql": "pymysql", "mysql+mysqldb": "MySQLdb", "mysql+mysqlconnector": "mysql"},
    "mssql": {"mssql+pyodbc": "pyodbc", "mssql+pymssql": "pymssql"},
}


def backend_of(database: str) -> str:
    """Return the kind of database: `sqlite`, `postgresql`, ...; FlowError where the URL does not begin with it."""
    match = _SCHEME.match(database)
    if match is None:
        raise FlowError(
            "this is no database URL",
            hint="begin with the kind: sqlite:///file.db, or postgresql+psycopg://user:${env:PASSWORD}@host/db",
        )
    return match.group(1)


def is_database(address: str) -> bool:
    """Return whether an address begins as a database URL does."""
    match = _SCHEME.match(address)
    return match is not None and match.group(1).lower() not in ("http", "https")


def check_url(database: str) -> None:
    """Raise FlowError for a URL that cannot work here: unknown kind, missing or async driver, a password in plain
    text."""
    backend = backend_of(database)
    try:
        url = _parse(database)
        _check_password(url)
        if backend == "duckdb":
            _check_file(url)
            return
        dialect = url.get_dialect()
        if dialect.is_async:
            raise FlowError(f"'{url.drivername}' is an async driver", hint="name a sync one, as in postgresql+psycopg")
        dialect.import_dbapi()
    except NoSuchModuleError as error:
        raise FlowError(f"no driver knows databases of kind '{url.drivername}'", hint=_kind_hint(backend)) from error
    except ImportError as error:
        raise FlowError(
            f"the database driver '{error.name}' is not installed", hint=_driver_hint(backend, error.name or "")
        ) from error
    except (ArgumentError, ValueError) as error:
        raise _no_url() from error
    if backend == "sqlite":
        _check_file(url)


def check_address(database: str) -> None:
    """Raise FlowError for a URL that is no address of one database. It need not say how one connects: its driver may be
    any."""
    try:
        url = _parse(database)
    except (ArgumentError, ValueError) as error:
        raise _no_url() from error
    _check_password(url)
    if url.query:
        raise FlowError("an address has no options", hint="leave out what stands after the ? of the database URL")
    if url.get_backend_name() in FILE_BACKENDS:
        _check_file(url)


def database_address(database: str) -> str:
    """Return the URL without driver, user, password and options."""
    url = _parse(database)
    plain = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return _named(plain.render_as_string())


def resource_of(database: str, base_dir: Path) -> str:
    """Return the database as a plan names it: no user, no password, no options; equal for two URLs of one database."""
    url = _parse(database)
    backend = url.get_backend_name()
    if backend in FILE_BACKENDS:
        path = file_path(url, base_dir)
        base = base_dir.resolve()
        return _named(f"{backend}:{path.relative_to(base) if path.is_relative_to(base) else path}")
    port = f":{url.port}" if url.port else ""
    return _named(f"{backend}:{url.host or ''}{port}/{url.database or ''}")


def files_of_database(database: str) -> tuple[str, ...]:
    """Return the file that the database is, where it is one and no secret hides its name; from the flow's folder."""
    url = _parse(database)
    name = url.database or ""
    return (name,) if url.get_backend_name() in FILE_BACKENDS and name and not _MARK.search(name) else ()


def reveal_url(database: str, secrets: Secrets) -> URL:
    """Return the URL to connect to; OperatorError where a variable is not set."""
    url = _parse(database)

    def reveal(part: str | None) -> str | None:
        return None if part is None else reveal_text(_named(part), secrets)

    query = {
        key: tuple(reveal(item) or "" for item in value) if isinstance(value, tuple) else reveal(value) or ""
        for key, value in url.query.items()
    }
    return url.set(
        username=reveal(url.username),
        password=reveal(url.password),
        host=reveal(url.host),
        database=reveal(url.database),
        query=query,
    )


def file_path(url: URL, base_dir: Path) -> Path:
    """Return the file that a URL names; a relative one is looked for in `base_dir`."""
    return (base_dir / (url.database or "")).resolve()


def _parse(database: str) -> URL:
    return make_url(PATTERN.sub("\ue000\\1\ue001", database))


def _named(text: str) -> str:
    """Return `text` with the names of secrets as the user writes them."""
    return _MARK.sub(r"${env:\1}", text)


def _no_url() -> FlowError:
    return FlowError("this is no database URL", hint="write kind+driver://user:${env:NAME}@host:port/name")


def _check_password(url: URL) -> None:
    if url.password is not None and _MARK.search(str(url.password)) is None:
        raise FlowError("a password stands in the flow", hint="write ${env:NAME} in its place and export NAME")


def _kind_hint(backend: str) -> str:
    if backend in _OTHER_NAMES:
        return f"write {_OTHER_NAMES[backend]}:// instead"
    if backend in _DIALECT_PACKAGES:
        return f"pip install {_DIALECT_PACKAGES[backend]}"
    return "install the SQLAlchemy dialect for it, or correct the name before ://"


def _driver_hint(backend: str, module: str) -> str:
    name = module.partition(".")[0]
    install = f"pip install '{_DRIVER_PACKAGES.get(name, name)}'"
    other = next((url for url, driver in _OTHER_DRIVERS.get(backend, {}).items() if find_spec(driver)), None)
    return f"write {other}://, whose driver is installed, or: {install}" if other else install


def _check_file(url: URL) -> None:
    backend = url.get_backend_name()
    example = f"{backend}:///file.{'db' if backend == 'sqlite' else 'duckdb'}"
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "duckdb"):
        raise FlowError(f"'{url.drivername}' is not supported", hint=f"write {example}")
    if not url.database or url.database.startswith(":memory:"):
        raise FlowError("a database in memory is empty for every call", hint=f"name a file: {example}")
    if url.database.startswith(("file:", "md:", "motherduck:")) or url.query or url.host:
        raise FlowError(f"a URL of {backend} names a file and has no options here", hint=f"write the path: {example}")
