# Postgres, with a cluster for this checkout.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $root and $state are set by scripts/services

# Folders with all programs of Postgres: first the one in PATH, then Debian's and Homebrew's, newest first.
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

# The folder to use: one with the version of the existing data if possible, else the first.
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

# Prints the prefix of a command that runs Postgres. Postgres refuses to run as root; the prefix changes the user to
# `postgres`, which Debian's package creates. It replaces itself with the command, which keeps the pid.
postgres_user() {
  [ "$(id -u)" != 0 ] || echo setpriv --reuid postgres --regid postgres --clear-groups --
}

# shellcheck disable=SC2046  # a list of arguments
as_postgres() { (cd / && exec $(postgres_user) "$@"); }

# The data folder: in the checkout, unless choose_postgres_dir has chosen another.
postgres_dir() { cat "$state/postgres.dir" 2>/dev/null || echo "$state/postgres"; }

# Chooses a data folder outside the checkout if the user `postgres` has no access to it (a clone in a private folder).
choose_postgres_dir() {
  local base dir
  [ "$(id -u)" = 0 ] || return 0
  id postgres >/dev/null 2>&1 || useradd --system --user-group --no-create-home postgres
  if [ -s "$state/postgres.dir" ] || as_postgres test -x "$state"; then return 0; fi
  base="${TMPDIR:-/tmp}"
  as_postgres test -w "$base" || base=/tmp
  dir="$base/messages-postgres-$(printf %s "$root" | cksum | cut -d' ' -f1)"
  say "the user postgres has no access to this checkout; Postgres keeps its data in $dir"
  echo "$dir" >"$state/postgres.dir"
}

postgres_mark() { echo "/postgres -D $(postgres_dir) "; }

postgres_answers() {
  alive postgres && "$(postgres_bin)/pg_isready" -q -h 127.0.0.1 -p "$(port postgres)"
}

# Creates the cluster in a temporary folder and then renames it: a data folder is always complete.
postgres_make() {
  local bin="$1" dir="$2" log="$state/log/initdb.log"
  rm -rf "$dir" "$dir.new"
  mkdir -m 700 "$dir.new"
  [ "$(id -u)" != 0 ] || chown postgres: "$dir.new"
  as_postgres "$bin/initdb" -D "$dir.new" -U messages --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    </dev/null >"$log" 2>&1 || die_with_log "$log" "could not create Postgres's storage"
  as_postgres "$bin/postgres" --single -D "$dir.new" postgres <<<'CREATE DATABASE messages' >>"$log" 2>&1 ||
    die_with_log "$log" "could not create the database"
  mv "$dir.new" "$dir"
}

postgres_start() {
  local bin dir
  choose_postgres_dir
  bin="$(postgres_bin)" dir="$(postgres_dir)"
  [ -e "$dir/PG_VERSION" ] || postgres_make "$bin" "$dir"
  # In a shared folder such as /tmp, another user may have created it.
  as_postgres test -O "$dir" || die "$dir belongs to another user. Delete it, then run: scripts/services up"
  [ "$(postgres_version "$bin")" = "$(postgres_made_by)" ] || die "the data in $dir are of Postgres" \
    "$(postgres_made_by), which isn't installed. Install it, or delete the data with: scripts/services down --wipe"
  # No Unix socket: its path could be too long. The data are as durable as in production.
  # shellcheck disable=SC2046  # a list of arguments
  daemon postgres $(postgres_user) "$bin/postgres" -D "$dir" -c listen_addresses=127.0.0.1 \
    -c port="$(port postgres)" -c unix_socket_directories= -c max_connections=400 -c shared_buffers=256MB \
    -c fsync=on -c synchronous_commit=on
}

# On INT, Postgres disconnects its clients instead of waiting for them (fast shutdown).
postgres_stop() { stop_daemon postgres INT; }

postgres_wipe() {
  local dir
  dir="$(postgres_dir)"
  rm -rf "$dir" "$dir.new" "$state/postgres.dir"
}
