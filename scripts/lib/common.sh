# What the services share: addresses, ports, processes, waiting.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $root and $state are set by scripts/services

say() { printf '· %s\n' "$*" >&2; }
die() { printf '✗ %s\n' "$*" >&2; exit 1; }

# Shows the end of a log, says where it is and gives up: die_with_log LOG MESSAGE
die_with_log() {
  tail -n 20 "$1" >&2 || true
  die "$2; the whole log: $1"
}

# Two commands at once take turns, so that each service is started once.
lock() {
  command -v flock >/dev/null || die "flock is missing: install util-linux (Debian) or flock (Homebrew)"
  mkdir -p "$state"
  exec 9>"$state/lock"
  flock -n 9 || { say "waiting for another scripts/services in this checkout"; flock 9; }
  printf '%s\n' "$root" >"$state/root"
}

# The state of a checkout that was copied or moved names the processes and folders of the original.
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

# Where a service of ours is, as programs are told.
address() {
  case "$1" in
    kafka) echo "127.0.0.1:$(port kafka)" ;;
    postgres) echo "postgres://messages@127.0.0.1:$(port postgres)/messages" ;;
    redis) echo "redis://127.0.0.1:$(port redis)" ;;
  esac
}

# The address that the user gave for a service; nothing when the service is ours to run. A shell that took over
# our own `env` has given nothing.
given() {
  local name value
  name="$(variable "$1")"
  value="${!name:-}"
  if [ -s "$state/ports/$1" ] && [ "$value" = "$(address "$1")" ]; then
    if alive "$1" || ! listens "$(port "$1")"; then value=""; fi
  fi
  printf '%s' "$value"
}

# The services that are ours to run.
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

# The port that a service has, or would get.
port() { cat "$state/ports/$1" 2>/dev/null || default_port "$1"; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Gives a service that doesn't run its port: the one it had, else the default, else the next that is free. It is
# remembered, so that two checkouts can run side by side.
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

# Lets go of the locks, and of what the caller of this script may be waiting to see closed.
close_files() {
  local fd
  for fd in /dev/fd/*; do
    fd="${fd##*/}"
    case "$fd" in 0 | 1 | 2 | *[!0-9]*) ;; *) eval "exec $fd>&-" ;; esac
  done
}

# A process's command line; nothing when it is gone.
command_line() {
  if [ -d /proc/self ]; then
    { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null || true
  else
    ps -o args= -p "$1" 2>/dev/null || true
  fi
}

# Whether a process is gone. One that ended stays listed until its parent has noticed.
gone() {
  kill -0 "$1" 2>/dev/null || return 0
  case "$(cat "/proc/$1/stat" 2>/dev/null)" in *") Z "*) return 0 ;; *) return 1 ;; esac
}

# Whether a service of this checkout runs. The number in the pid file alone doesn't say: it may have gone to
# another process since.
alive() {
  local pid
  pid="$(cat "$state/$1.pid" 2>/dev/null)" && [ -n "$pid" ] || return 1
  case "$(command_line "$pid")" in
    *"$("${1}_mark")"*) return 0 ;;
    *) return 1 ;;
  esac
}

# Stops a daemon: politely, then after 20 s by force.
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
      say "$name doesn't stop; killing it"
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
      die_with_log "$state/log/$1.log" "$1 ended instead of starting. Once that is mended, run: scripts/services up"
    fi
    sleep 0.1
  done
  die_with_log "$state/log/$1.log" "$1 doesn't answer after 60 s. Stop it with: scripts/services down"
}
