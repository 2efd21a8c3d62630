# Finding what the services and the build need; installing it as root on Debian.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $state is set by scripts/services

# What each needs, a line each: what is looked for | Debian's package | Homebrew's formula
needs() {
  case "$1" in
    # librdkafka is built from source, with configure and make, in C and C++.
    build) printf '%s\n' 'make|make|make' 'cc|gcc libc6-dev|gcc' 'c++|g++|gcc' ;;
    kafka) printf '%s\n' 'java|default-jre-headless|openjdk' 'mvn|maven|maven' ;;
    postgres) printf '%s\n' 'postgres|postgresql|postgresql@15' ;;
    redis) printf '%s\n' 'redis-server|redis-server|redis' ;;
    test-tools) printf '%s\n' 'node|nodejs|node' 'npm|npm|node' 'chromium|chromium|--cask chromium' \
      'python3|python3 python3-venv|python' 'nginx|nginx-light|nginx' ;;
  esac
}

has() {
  case "$1" in
    java) has_java ;;
    mvn) kafka_has_jars || command -v mvn >/dev/null ;;
    postgres) postgres_bin >/dev/null ;;
    chromium) has_chromium ;;
    python3) has_python ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Kafka 4 runs on Java 17 and newer.
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

# Debian has what makes environments in a package of its own.
has_python() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# What is missing, as lines of the table above: missing_tools GROUP...
missing_tools() {
  local group line
  for group in "$@"; do
    while IFS= read -r line; do
      has "${line%%|*}" || printf '%s\n' "$line"
    done < <(needs "$group")
  done
}

# install_tools GROUP...: afterwards everything is there, or nothing has been started.
install_tools() {
  local missing
  missing="$(missing_tools "$@")"
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2046  # names of packages
    debian_install $(cut -d'|' -f2 <<<"$missing")
    missing="$(missing_tools "$@")"
    [ -n "$missing" ] || return 0
  fi
  explain "$missing"
  exit 1
}

explain() {
  local tool debian brew
  printf '✗ These are missing. Install them, then run this again:\n' >&2
  while IFS='|' read -r tool debian brew; do
    case "$tool" in java) tool="java (17 or newer)" ;; esac
    printf '    %-20s Debian: apt install %-26s Homebrew: brew install %s\n' "$tool" "$debian" "$brew" >&2
  done <<<"$1"
}

# In a subshell, so that its clean-up happens however it ends.
debian_install() (
  say "installing $*"
  log="$state/log/install.log"
  made=""
  trap '[ -z "$made" ] || rm -f $made' EXIT
  trap 'exit 130' INT TERM
  # The packages would start services of their own on the usual ports, which may be the user's.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    made+=" /usr/sbin/policy-rc.d"
    printf '#!/bin/sh\n# Only while scripts/services of Messages installs packages.\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
  fi
  # And Postgres's would make a cluster that nobody asked for.
  if ! has postgres && [ ! -e /etc/postgresql-common/createcluster.d/messages.conf ]; then
    made+=" /etc/postgresql-common/createcluster.d/messages.conf"
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/messages.conf
  fi
  export DEBIAN_FRONTEND=noninteractive
  if ! { apt-get update && apt-get install -y -o DPkg::Lock::Timeout=300 --no-install-recommends "$@"; } \
    </dev/null >"$log" 2>&1 8>&- 9>&-; then
    die_with_log "$log" "could not install $*"
  fi
)
