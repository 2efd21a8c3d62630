# Finding what the services need; installing it as root on Debian.
# shellcheck shell=bash

# command | Debian package | Homebrew formula
needs() {
  case "$1" in
    kafka) printf '%s\n' 'java|openjdk-17-jre-headless|openjdk@17' 'mvn|maven|maven' ;;
    postgres) printf '%s\n' 'postgres|postgresql|postgresql@15' ;;
    redis) printf '%s\n' 'redis-server|redis-server|redis' ;;
    build) printf '%s\n' 'make|make|make' 'cc|gcc|gcc' 'c++|g++|gcc' ;;
    test-tools) printf '%s\n' 'node|nodejs|node' 'npm|npm|node' 'chromium|chromium|chromium' ;;
  esac
}

has() {
  case "$1" in
    postgres) postgres_bin >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# install_tools SERVICE... [--with-test-tools]: only for services that are not up yet.
install_tools() {
  local group line tool debian brew packages=() hints=()
  for group in build "${@/#--with-/}"; do
    while IFS='|' read -r tool debian brew; do
      [ -z "$tool" ] || has "$tool" || { packages+=("$debian"); hints+=("$tool: $debian (Debian), $brew (Homebrew)"); }
    done < <(needs "$group")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    debian_install "${packages[@]}"
  else
    printf '✗ %s\n' 'These are missing; install them and run this again:' "${hints[@]}" >&2
    exit 1
  fi
}

debian_install() {
  say "installing $*"
  # The packages would start services of their own on the usual ports. A policy says no while they install.
  local policy=/usr/sbin/policy-rc.d ours=no
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    ours=yes
  fi
  mkdir -p "$state/log"
  local failed=no
  if ! { DEBIAN_FRONTEND=noninteractive apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
    --no-install-recommends "$@"; } >"$state/log/install.log" 2>&1; then
    failed=yes
  fi
  [ "$ours" = no ] || rm -f "$policy"
  if [ "$failed" = yes ]; then
    tail -n 20 "$state/log/install.log" >&2
    die "could not install $*; the whole log is $state/log/install.log"
  fi
}
