# Postgres, with a cluster of its own.
# shellcheck shell=bash

# The folder of the newest Postgres: in PATH, else where Debian puts it.
postgres_bin() {
  local folder
  folder="$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)"
  if [ -n "$folder" ]; then
    echo "$folder"
  elif command -v initdb >/dev/null; then
    dirname "$(command -v initdb)"
  else
    return 1
  fi
}

# Postgres refuses to run as root: then it runs as the user `postgres`.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid postgres --regid postgres --clear-groups -- "$@"
  else
    "$@"
  fi
}

# Its data: under the checkout, unless the user `postgres` can't get there (a clone in a private folder).
postgres_dir() {
  if [ "$(id -u)" != 0 ] || ! id postgres >/dev/null 2>&1 || as_postgres test -x "$root"; then
    echo "$state/postgres"
  else
    echo "${TMPDIR:-/tmp}/messages-postgres-$(printf %s "$root" | cksum | cut -d' ' -f1)"
  fi
}

postgres_answers() {
  alive postgres && "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(port postgres)"
}

postgres_start() {
  local bin dir
  bin="$(postgres_bin)" dir="$(postgres_dir)"
  if [ ! -e "$dir/PG_VERSION" ]; then
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres: "$dir"
    chmod 700 "$dir"
    (cd / && as_postgres "$bin/initdb" -D "$dir" -U messages --auth=trust --encoding=UTF8 --locale=C.UTF-8) \
      >"$state/log/initdb.log" 2>&1 || {
      tail -n 20 "$state/log/initdb.log" >&2
      die "Postgres's storage could not be made; the whole log is $state/log/initdb.log"
    }
    # The database is there from the first start on.
    (cd / && echo 'CREATE DATABASE messages' | as_postgres "$bin/postgres" --single -D "$dir" postgres) \
      >>"$state/log/initdb.log" 2>&1
  fi
  (cd / && as_postgres true)
  if [ "$(id -u)" = 0 ]; then
    daemon postgres setpriv --reuid postgres --regid postgres --clear-groups -- "$bin/postgres" -D "$dir" \
      -c listen_addresses=127.0.0.1 -c port="$(port postgres)" -c unix_socket_directories= \
      -c max_connections=400 -c shared_buffers=256MB
  else
    daemon postgres "$bin/postgres" -D "$dir" -c listen_addresses=127.0.0.1 -c port="$(port postgres)" \
      -c unix_socket_directories= -c max_connections=400 -c shared_buffers=256MB
  fi
}

# INT is Postgres's fast shutdown: it doesn't wait for clients to leave.
postgres_stop() { stop_daemon postgres INT; }
