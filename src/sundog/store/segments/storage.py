"""Object storage at a URL: objects that are made whole, at most once where that is asked for, listed and read.

Owns obstore (extra `cloud`) and what its failures mean. Never knows what an object holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

from sundog.errors import ConfigError, StoreError
from sundog.private_files import make_private_folder

if TYPE_CHECKING:
    from obstore import UpdateVersion
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "file")
"""The kinds of storage of which obstore is known to create objects only where there are none."""
REQUEST_TIMEOUT = "20s"
MAX_RETRY_TIME = timedelta(seconds=40)
"""A request is not begun again later than so long after its first time: nobody hears an interruption meanwhile. Whoever
sends is more patient."""
PART_BYTES = 8 * 2**20
"""The bytes of a large object that are one request."""
MAX_ERROR_CHARACTERS = 300
_PROBE_FOLDER = "probes"


class StorageFailed(StoreError):
    """Raised where a request to the storage failed; caught by `segments.patience`, which asks again, and as any
    StoreError is."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"the storage failed: {_told(error)}",
            where=url,
            hint="check its address, the credentials of this environment and that the bucket exists; the same command "
            "continues the run",
        )


class ObjectStorage:
    """The objects below one URL, as `s3://bucket/folder`. Credentials and endpoints are those of the environment, as
    the tools of each cloud read them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, GOOGLE_SERVICE_ACCOUNT and so on).
    StoreError, with the URL and what to do, for all that fails. Used from several threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = _opened(url)

    def create(self, name: str, body: bytes) -> bool:
        """Make an object, whole, unless one of that name is there; gives whether it was made. A request that failed
        may have made it all the same."""
        from obstore import put
        from obstore.exceptions import AlreadyExistsError

        try:
            put(self._store, name, body, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except Exception as error:  # obstore has no class above those of its failures
            raise StorageFailed(self.url, error) from error
        return True

    def replace(self, name: str, body: bytes) -> None:
        """Make an object, whole, in place of any of that name."""
        from obstore import put

        try:
            put(self._store, name, body, use_multipart=False)
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def exchange(self, name: str, body: bytes, version: UpdateVersion) -> bool:
        """Make an object in place of the one that `read_version` gave with this version; gives False where another has
        come in its place, or none is there. The storage of `file://` cannot do it."""
        from obstore import put
        from obstore.exceptions import NotFoundError, PreconditionError

        try:
            put(self._store, name, body, mode=version, use_multipart=False)
        except (PreconditionError, NotFoundError):
            return False
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error
        return True

    def read_version(self, name: str) -> tuple[bytes, UpdateVersion] | None:
        """Return what an object holds, and its version for `exchange`; None where there is none of that name."""
        from obstore import get

        try:
            found = get(self._store, name)
            version: UpdateVersion = {}
            if found.meta["e_tag"] is not None:
                version["e_tag"] = found.meta["e_tag"]
            if found.meta["version"] is not None:
                version["version"] = found.meta["version"]
            return bytes(found.bytes()), version
        except FileNotFoundError:
            return None
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def read(self, name: str) -> bytes | None:
        """Return what an object holds; None where there is none of that name."""
        from obstore import get

        try:
            return bytes(get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def keep(self, name: str, file: Path) -> None:
        """Make an object of what a file holds, in parts, since each request has to end in REQUEST_TIMEOUT; nothing
        where one of that name is there, which holds the same."""
        from obstore import head

        try:
            head(self._store, name)
        except FileNotFoundError:
            pass
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error
        else:
            return
        self.send(name, file)

    def send(self, name: str, file: Path) -> None:
        """Make an object of what a file holds, in parts as `keep` does, in place of any of that name."""
        from obstore import put

        try:
            put(self._store, name, file, chunk_size=PART_BYTES, use_multipart=True)
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def fetch(self, name: str, file: BinaryIO) -> bool:
        """Write what an object holds into a file, in parts; gives False where there is none of that name."""
        from obstore import get_range, head

        try:
            size = head(self._store, name)["size"]
            for start in range(0, size, PART_BYTES):
                file.write(get_range(self._store, name, start=start, length=min(PART_BYTES, size - start)))
        except FileNotFoundError:
            return False
        except OSError:  # of the file here
            raise
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error
        return True

    def names(self, folder: str, after: str = "") -> Iterator[str]:
        """Yield the names of the objects of a folder, in no order, from behind the name `after` on."""
        from obstore import list as listed

        try:
            for some in listed(self._store, folder, offset=after or None):
                yield from (one["path"] for one in some)
        except FileNotFoundError:  # a folder of files that nobody has made
            return
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def direct_names(self) -> list[str]:
        """Return the names of the objects that lie in no folder."""
        from obstore import list_with_delimiter

        try:
            return [one["path"] for one in list_with_delimiter(self._store)["objects"]]
        except FileNotFoundError:
            return []
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder."""
        from obstore import list_with_delimiter

        try:
            return list(list_with_delimiter(self._store, folder)["common_prefixes"])
        except FileNotFoundError:
            return []
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error

    def check_creation(self) -> None:
        """Raise StoreError where the storage makes an object a second time although only a first was asked for: then
        two processes could work on one run."""
        name = f"{_PROBE_FOLDER}/{uuid4().hex}"
        try:
            # That it is there already is no fault: a request that was tried again may have made it the first time.
            self.create(name, b"first")
            is_kept = not self.create(name, b"second") and self.read(name) == b"first"
        finally:
            self.drop(name)
        if not is_kept:
            raise StoreError(
                "this storage makes an object a second time although it was asked to make it once, so that two "
                "processes could work on one run",
                where=self.url,
                hint="use storage that knows conditional puts (S3, Google Cloud Storage, Azure, a folder), or a newer "
                "version of this one",
            )

    def drop(self, name: str) -> None:
        """Drop an object, if there is one of that name."""
        from obstore import delete

        try:
            delete(self._store, name)
        except FileNotFoundError:
            return
        except Exception as error:  # as above
            raise StorageFailed(self.url, error) from error


def _opened(url: str) -> ObjectStore:
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ConfigError(f"nothing can be kept at {url}", hint=f"it begins with one of {', '.join(SCHEMES)}, and ://")
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigError(f"{url} needs an extra of sundog", hint="pip install 'sundog[cloud]'") from error
    try:
        if scheme == "file":
            # What lies below has the modes of the user's other files.
            if urlsplit(url).netloc:
                raise ValueError("a folder has three slashes, file:///folder")
            make_private_folder(Path(url2pathname(urlsplit(url).path)))
            return from_url(url, mkdir=True)
        options = {
            "client_options": {"timeout": REQUEST_TIMEOUT, "allow_http": True},
            "retry_config": {"retry_timeout": MAX_RETRY_TIME},
        }
        return cast("ObjectStore", from_url(url, **options))  # type: ignore[call-overload]  # they differ by scheme
    except Exception as error:  # as above
        raise ConfigError(f"nothing can be kept at {url}: {_told(error)}") from error


def _told(error: Exception) -> str:
    """Return what obstore says without the source of its failure and the page of the server."""
    text = str(error).partition("Debug source:")[0].partition("<?xml")[0]
    return " ".join(text.split())[:MAX_ERROR_CHARACTERS]
