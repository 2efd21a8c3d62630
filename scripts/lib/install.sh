# Finds the programs that the services and the build need, and installs them as root on Debian.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $state is set by scripts/services

# The programs of a group, a line each: program | Debian package | Homebrew formula
needs() {
  case "$1" in
    # The build compiles librdkafka from source: with configure and make, in C and C++.
    build) printf '%s\n' 'make|make|make' 'cc|gcc libc6-dev|gcc' 'c++|g++|gcc' ;;
    kafka) printf '%s\n' 'java|default-jre-headless|openjdk' 'mvn|maven|maven' ;;
    postgres) printf '%s\n' 'postgres|postgresql|postgresql@15' ;;
    redis) printf '%s\n' 'redis-server|redis-server|redis' ;;
    test-tools) printf '%s\n' 'node|nodejs|node' 'npm|npm|node' 'chromium|chromium|--cask chromium' \
      'python3|python3 python3-venv|python' 'nginx|nginx-light|nginx' 'pgbouncer|pgbouncer|pgbouncer' \
      'kcat|kcat|kcat' 'jq|jq|jq' ;;
  esac
}

has() {
  case "$1" in
    java) has_java ;;
    mvn) kafka_has_jars || command -v mvn >/dev/null ;;
    postgres) postgres_bin >/dev/null ;;
    chromium) has_chromium ;;
    python3) has_python ;;
    pgbouncer) has_pgbouncer ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Kafka 4 needs Java 17 or newer.
has_java() {
  local major
  major="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)" || return 1
  [ "${major:-0}" -ge 17 ]
}

has_chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null; then return 0; fi
  done
  [ -d /Applications/Chromium.app ] || [ -d "/Applications/Google Chrome.app" ]
}

# Debian installs it where only root looks.
has_pgbouncer() { command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; }

# Debian has the modules that create virtual environments in a separate package.
has_python() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# Prints the missing programs as lines of the table above: missing_tools GROUP...
missing_tools() {
  local group line
  for group in "$@"; do
    while IFS= read -r line; do
      has "${line%%|*}" || printf '%s\n' "$line"
    done < <(needs "$group")
  done
}

# Installs the missing programs, or lists them and exits before anything is started: install_tools GROUP...
install_tools() {
  local missing
  missing="$(missing_tools "$@")"
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2046  # a list of package names
    debian_install $(cut -d'|' -f2 <<<"$missing")
    missing="$(missing_tools "$@")"
    [ -n "$missing" ] || return 0
  fi
  explain "$missing"
  exit 1
}

explain() {
  local tool debian brew
  printf '✗ These programs are missing. Install them, then run the command again:\n' >&2
  while IFS='|' read -r tool debian brew; do
    case "$tool" in java) tool="java (17 or newer)" ;; esac
    printf '    %-20s Debian: apt install %-26s Homebrew: brew install %s\n' "$tool" "$debian" "$brew" >&2
  done <<<"$1"
}

# Runs in a subshell: its trap then removes the temporary files however it ends.
debian_install() (
  say "installing $*"
  log="$state/log/install.log"
  made=""
  trap '[ -z "$made" ] || rm -f $made' EXIT
  trap 'exit 130' INT TERM
  # The packages would start services on the default ports, which the user may need.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    made+=" /usr/sbin/policy-rc.d"
    printf '#!/bin/sh\n# Temporary: scripts/services of Messages installs packages.\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  # The package of Postgres would create a cluster, which nobody needs.
  if ! has postgres && [ ! -e /etc/postgresql-common/createcluster.d/messages.conf ]; then
    made+=" /etc/postgresql-common/createcluster.d/messages.conf"
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/messages.conf
  fi
  export DEBIAN_FRONTEND=noninteractive
  with_progress "$log" "installing" debian_packages "$@" || die_with_log "$log" "installing failed: $*"
)

debian_packages() {
  apt-get update && apt-get install -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"
}
