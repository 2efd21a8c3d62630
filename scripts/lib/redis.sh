# Redis, without persistence: the system works on when Redis loses everything.
# shellcheck shell=bash
# shellcheck disable=SC2154  # $state is set by scripts/services

# The title that Redis sets for its process.
redis_mark() { echo "redis-server 127.0.0.1:$(port redis)"; }

redis_answers() { alive redis && redis_ping; }

redis_ping() (
  exec 3<>"/dev/tcp/127.0.0.1/$(port redis)" || exit 1
  printf 'PING\r\n' >&3
  read -r -t 2 answer <&3 || exit 1
  [ "$answer" = $'+PONG\r' ]
) 2>/dev/null

redis_start() {
  mkdir -p "$state/redis"
  cat >"$state/redis/redis.conf" <<CONFIG
bind 127.0.0.1
port $(port redis)
dir "$state/redis"
save ""
appendonly no
CONFIG
  daemon redis redis-server "$state/redis/redis.conf"
}

redis_stop() { stop_daemon redis; }

redis_wipe() { rm -rf "$state/redis"; }
