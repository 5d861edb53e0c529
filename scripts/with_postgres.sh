#!/usr/bin/env bash
# Runs a command beside a throw-away PostgreSQL on loopback: scripts/with_postgres.sh COMMAND [ARGUMENT...]
# The command finds its address in SUNDOG_TEST_POSTGRES_URL; server and data are gone when it ends.
set -euo pipefail

binaries=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
if [[ -z $binaries ]]; then
  echo "PostgreSQL is not installed here, so its tests are skipped (Debian: apt-get install postgresql)"
  exec "$@"
fi

folder=$(mktemp -d)
as_owner=()
if [[ $(id -u) == 0 ]]; then # the server refuses to run as root
  chown postgres "$folder"
  as_owner=(runuser -u postgres --)
fi

stop() {
  "${as_owner[@]}" "$binaries/pg_ctl" stop --silent --mode immediate --pgdata "$folder/data" || true
  rm -rf "$folder"
}
trap stop EXIT

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$folder" # a folder that the server's user may read
"${as_owner[@]}" "$binaries/initdb" --username postgres --auth trust --no-sync --encoding UTF8 --pgdata data >initdb.log
"${as_owner[@]}" "$binaries/pg_ctl" start --silent --wait --pgdata data --log "$folder/server.log" \
  --options "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c fsync=off" ||
  { cat server.log >&2; exit 1; }
cd "$OLDPWD"

export SUNDOG_TEST_POSTGRES_URL="postgresql+psycopg://postgres@127.0.0.1:$port/postgres"
"$@"
