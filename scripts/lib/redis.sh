# Redis, in memory only: all that it holds can be had again.
# shellcheck shell=bash

redis_answers() { alive redis && listens "$(port redis)"; }

redis_start() {
  mkdir -p "$state/redis"
  daemon redis redis-server --bind 127.0.0.1 --port "$(port redis)" --dir "$state/redis" --save '' --appendonly no
}

redis_stop() { stop_daemon redis; }
