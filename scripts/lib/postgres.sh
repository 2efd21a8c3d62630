# Postgres, with a cluster of its own.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $root and $state are set by scripts/services

# Folders with all of Postgres's programs: the one in PATH, then Debian's and Homebrew's, the newest first.
postgres_folders() {
  local folder
  {
    command -v postgres | sed 's|/postgres$||'
    printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin |
      sort -rV
  } | while IFS= read -r folder; do
    if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ] && [ -x "$folder/pg_isready" ]; then echo "$folder"; fi
  done
}

# The folder to use: for data that exist one of their version, if there is one.
postgres_bin() {
  local folder first="" made_by
  made_by="$(postgres_made_by)"
  while IFS= read -r folder; do
    first="${first:-$folder}"
    if [ -z "$made_by" ] || [ "$(postgres_version "$folder")" = "$made_by" ]; then
      echo "$folder"
      return 0
    fi
  done < <(postgres_folders)
  [ -n "$first" ] && echo "$first"
}

postgres_version() { "$1/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }

postgres_made_by() { cat "$(postgres_dir)/PG_VERSION" 2>/dev/null || true; }

# Postgres refuses to run as root: then it runs as the user `postgres`, which Debian's package makes. In front of
# a command; it replaces itself by the command, so that the process keeps its number.
postgres_user() {
  [ "$(id -u)" != 0 ] || echo setpriv --reuid postgres --regid postgres --clear-groups --
}

# shellcheck disable=SC2046  # the words of a command
as_postgres() { (cd / && exec $(postgres_user) "$@"); }

# Its data: under the checkout, unless choose_postgres_dir put them elsewhere.
postgres_dir() { cat "$state/postgres.dir" 2>/dev/null || echo "$state/postgres"; }

# The user `postgres` may be unable to get to the checkout (a clone in a private folder).
choose_postgres_dir() {
  local base dir
  [ "$(id -u)" = 0 ] || return 0
  id postgres >/dev/null 2>&1 || useradd --system --user-group --no-create-home postgres
  if [ -s "$state/postgres.dir" ] || as_postgres test -x "$state"; then return 0; fi
  base="${TMPDIR:-/tmp}"
  as_postgres test -w "$base" || base=/tmp
  dir="$base/messages-postgres-$(printf %s "$root" | cksum | cut -d' ' -f1)"
  say "note: the user postgres can't reach this checkout, so Postgres's data are in $dir"
  echo "$dir" >"$state/postgres.dir"
}

postgres_mark() { echo "/postgres -D $(postgres_dir) "; }

postgres_answers() {
  alive postgres && "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(port postgres)"
}

# Makes the cluster beside its place and then moves it there: what is in place is whole.
postgres_make() {
  local bin="$1" dir="$2" log="$state/log/initdb.log"
  rm -rf "$dir" "$dir.new"
  mkdir -m 700 "$dir.new"
  [ "$(id -u)" != 0 ] || chown postgres: "$dir.new"
  as_postgres "$bin/initdb" -D "$dir.new" -U messages --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    </dev/null >"$log" 2>&1 || die_with_log "$log" "Postgres's storage could not be made"
  as_postgres "$bin/postgres" --single -D "$dir.new" postgres <<<'CREATE DATABASE messages' >>"$log" 2>&1 ||
    die_with_log "$log" "Postgres's database could not be made"
  mv "$dir.new" "$dir"
}

postgres_start() {
  local bin dir
  choose_postgres_dir
  bin="$(postgres_bin)" dir="$(postgres_dir)"
  [ -e "$dir/PG_VERSION" ] || postgres_make "$bin" "$dir"
  # In a folder for everyone, someone else may have been there first.
  as_postgres test -O "$dir" || die "$dir belongs to someone else. Delete it, then run: scripts/services up"
  [ "$(postgres_version "$bin")" = "$(postgres_made_by)" ] || die "the data in $dir were made by Postgres" \
    "$(postgres_made_by), which isn't here. Install it, or delete the data with: scripts/services down --wipe"
  # No Unix socket: the path of one may be too long. The data are as durable as in production.
  # shellcheck disable=SC2046  # the words of a command
  daemon postgres $(postgres_user) "$bin/postgres" -D "$dir" -c listen_addresses=127.0.0.1 \
    -c port="$(port postgres)" -c unix_socket_directories= -c max_connections=400 -c shared_buffers=256MB \
    -c fsync=on -c synchronous_commit=on
}

# INT is Postgres's fast shutdown: it doesn't wait for clients to leave.
postgres_stop() { stop_daemon postgres INT; }

postgres_wipe() {
  local dir
  dir="$(postgres_dir)"
  rm -rf "$dir" "$dir.new" "$state/postgres.dir"
}
