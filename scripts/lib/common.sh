# What the services share: ports, processes, waiting.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $state is set by scripts/services

say() { printf '· %s\n' "$*" >&2; }
die() { printf '✗ %s\n' "$*" >&2; exit 1; }

default_port() {
  case "$1" in
    kafka) echo 19092 ;;
    kafka-controller) echo 19093 ;;
    postgres) echo 15432 ;;
    redis) echo 16379 ;;
  esac
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A service's port: the one it was given, else the default, else the next free one. It is remembered, so that
# two checkouts can run side by side.
port() {
  local file="$state/ports/$1" candidate
  if [ ! -s "$file" ]; then
    mkdir -p "$state/ports"
    candidate="$(default_port "$1")"
    while listens "$candidate"; do candidate=$((candidate + 10)); done
    echo "$candidate" >"$file"
  fi
  cat "$file"
}

# Starts a daemon that outlives this script: daemon NAME COMMAND...
daemon() {
  local name="$1"
  shift
  setsid "$@" </dev/null >"$state/log/$name.log" 2>&1 &
  echo $! >"$state/$name.pid"
}

alive() {
  local pid_file="$state/$1.pid"
  [ -s "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null
}

# Stops a daemon: politely, then after 15 s by force.
stop_daemon() {
  local name="$1" pid signal="${2:-TERM}"
  alive "$name" || { rm -f "$state/$name.pid"; return 0; }
  pid="$(cat "$state/$name.pid")"
  say "stopping $name"
  kill "-$signal" "$pid" 2>/dev/null || true
  for _ in $(seq 150); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$state/$name.pid"; return 0; }
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$state/$name.pid"
}

# Waits until a service answers, at most 60 s.
wait_for() {
  local service="$1"
  for _ in $(seq 600); do
    "${service}_answers" && return 0
    alive "$service" || break
    sleep 0.1
  done
  tail -n 20 "$state/log/$service.log" >&2 || true
  die "$service did not start; its log is $state/log/$service.log. Once that is mended: scripts/services up"
}
