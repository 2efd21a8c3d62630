# Addresses, ports, processes and waiting, for all services.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $root and $state are set by scripts/services

# `make run` builds at the same time: on a terminal, a line replaces what is left of cargo's progress bar.
line_start=""
if [ -t 2 ]; then line_start=$'\r\033[K'; fi

say() { printf '%s· %s\n' "$line_start" "$*" >&2; }
die() { printf '%s✗ %s\n' "$line_start" "$*" >&2; exit 1; }

# Prints the end of a log and its path, then exits: die_with_log LOG MESSAGE
die_with_log() {
  tail -n 20 "$1" >&2 || true
  die "$2; full log: $1"
}

# Runs a command with its output in a log, and every 10 s prints the log's last line: with_progress LOG WHAT COMMAND...
with_progress() {
  local log="$1" what="$2" code=0 reporter
  shift 2
  report_progress "$log" "$what" 8>&- 9>&- &
  reporter=$!
  "$@" </dev/null >"$log" 2>&1 8>&- 9>&- || code=$?
  kill "$reporter" 2>/dev/null || true
  wait "$reporter" 2>/dev/null || true
  return "$code"
}

# Ends by itself if this script is killed. The caller of this script may wait until a pipe is closed, so `sleep` has
# none.
report_progress() {
  local begun=$SECONDS
  while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    say "$2, $((SECONDS - begun)) s: $(tail -n 1 "$1" | cut -c 1-100)"
  done
}

# Only one command runs at a time: two would start the same service twice.
lock() {
  command -v flock >/dev/null || die "flock is missing: install util-linux (Debian) or flock (Homebrew)"
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock -n 9 || { say "waiting for another scripts/services of this checkout"; flock 9; }
  printf '%s\n' "$root" >"$state/root"
}

# Deletes the state of a copied or moved checkout: it names the processes and folders of the original.
forget_copied_state() {
  if [ -s "$state/root" ] && [ "$(cat "$state/root")" != "$root" ]; then
    rm -rf "$state"/*.pid "$state/ports" "$state/postgres.dir" "$state/root"
  fi
}

variable() {
  case "$1" in
    kafka) echo KAFKA_BROKERS ;;
    postgres) echo DATABASE_URL ;;
    redis) echo REDIS_URL ;;
  esac
}

# The address of a service that this script runs, as the value of its environment variable.
address() {
  case "$1" in
    kafka) echo "127.0.0.1:$(port kafka)" ;;
    postgres) echo "postgres://messages@127.0.0.1:$(port postgres)/messages" ;;
    redis) echo "redis://127.0.0.1:$(port redis)" ;;
  esac
}

# Prints the address that the user has set for a service; nothing if this script runs the service. An address that
# comes from `scripts/services env` doesn't count as the user's.
given() {
  local name value
  name="$(variable "$1")"
  value="${!name:-}"
  if [ -s "$state/ports/$1" ] && [ "$value" = "$(address "$1")" ]; then
    if alive "$1" || ! listens "$(port "$1")"; then value=""; fi
  fi
  printf '%s' "$value"
}

# The services that this script runs.
ours() {
  local service
  for service in kafka postgres redis; do
    [ -n "$(given "$service")" ] || echo "$service"
  done
}

port_names() {
  case "$1" in
    kafka) echo kafka kafka-controller ;;
    *) echo "$1" ;;
  esac
}

default_port() {
  case "$1" in
    kafka) echo 19092 ;;
    kafka-controller) echo 19093 ;;
    postgres) echo 15432 ;;
    redis) echo 16379 ;;
  esac
}

# The port that a service has, or its default.
port() { cat "$state/ports/$1" 2>/dev/null || default_port "$1"; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Chooses the port of a service that isn't running: the last one, else the default, else the next free one. Stores it,
# because two checkouts may run at the same time and then have different ports.
choose_port() {
  local candidate
  candidate="$(port "$1")"
  while listens "$candidate"; do candidate=$((candidate + 10)); done
  echo "$candidate" >"$state/ports/$1"
}

# Starts a daemon that outlives this script and its terminal: daemon NAME COMMAND...
daemon() {
  local name="$1" detach=nohup
  shift
  if command -v setsid >/dev/null; then detach=setsid; fi
  [ ! -e "$state/log/$name.log" ] || mv -f "$state/log/$name.log" "$state/log/$name.log.old"
  (close_files && cd / && exec "$detach" "$@") </dev/null >"$state/log/$name.log" 2>&1 &
  echo $! >"$state/$name.pid"
}

# Closes the locks' files, and all others: the caller of this script may wait until a pipe is closed.
close_files() {
  local fd
  for fd in /dev/fd/*; do
    fd="${fd##*/}"
    case "$fd" in 0 | 1 | 2 | *[!0-9]*) ;; *) eval "exec $fd>&-" ;; esac
  done
}

# A process's command line; nothing if the process has ended.
command_line() {
  if [ -d /proc/self ]; then
    { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null || true
  else
    ps -o args= -p "$1" 2>/dev/null || true
  fi
}

# Whether a process has ended. It may still be listed: as a zombie, until its parent waits for it.
gone() {
  kill -0 "$1" 2>/dev/null || return 0
  case "$(cat "/proc/$1/stat" 2>/dev/null)" in *") Z "*) return 0 ;; *) return 1 ;; esac
}

# Whether a service of this checkout is running. The pid alone isn't enough: the system may have reused it for another
# process.
alive() {
  local pid
  pid="$(cat "$state/$1.pid" 2>/dev/null)" && [ -n "$pid" ] || return 1
  case "$(command_line "$pid")" in
    *"$("${1}_mark")"*) return 0 ;;
    *) return 1 ;;
  esac
}

# Stops a daemon with a signal, and kills it after 20 s.
stop_daemon() {
  local name="$1" signal="${2:-TERM}" pid
  if alive "$name"; then
    pid="$(cat "$state/$name.pid")"
    say "stopping $name"
    kill "-$signal" "$pid" 2>/dev/null || true
    for _ in $(seq 200); do
      if gone "$pid"; then break; fi
      sleep 0.1
    done
    if ! gone "$pid"; then
      say "$name doesn't stop after 20 s; killing it"
      kill -KILL "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$state/$name.pid"
}

# Waits until a service answers, at most 60 s.
wait_for() {
  local pid begun=$SECONDS
  pid="$(cat "$state/$1.pid")"
  while [ $((SECONDS - begun)) -lt 60 ]; do
    if "${1}_answers"; then return 0; fi
    if gone "$pid"; then
      die_with_log "$state/log/$1.log" "$1 ended instead of starting. Fix the cause, then run: scripts/services up"
    fi
    sleep 0.1
  done
  die_with_log "$state/log/$1.log" "$1 doesn't answer after 60 s. Stop it with: scripts/services down"
}
