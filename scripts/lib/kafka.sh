# One Kafka broker that is its own controller (KRaft).
# shellcheck shell=bash

kafka_answers() { alive kafka && listens "$(port kafka)"; }

# The jars, by Maven; again whenever the pom changes.
kafka_jars() {
  local pom="$root/scripts/kafka/pom.xml" libs="$state/kafka/libs" mark
  mark="$(cksum <"$pom")"
  [ "$(cat "$libs/.made-from" 2>/dev/null)" = "$mark" ] && return 0
  say "fetching Kafka (once)"
  rm -rf "$libs"
  mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$libs" >"$state/log/maven.log" 2>&1 || {
    tail -n 20 "$state/log/maven.log" >&2
    die "Maven could not fetch Kafka; the whole log is $state/log/maven.log"
  }
  echo "$mark" >"$libs/.made-from"
}

kafka_config() {
  local broker controller
  broker="$(port kafka)" controller="$(port kafka-controller)"
  cat >"$state/kafka/server.properties" <<CONFIG
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$state/kafka/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# The tests make a topic each, mostly empty: small indexes keep them cheap.
log.index.size.max.bytes=1048576
CONFIG
}

kafka_java() {
  java -Xms512m -Xmx512m -XX:+UseG1GC -Dlog4j2.configurationFile="$root/scripts/kafka/log4j2.yaml" \
    -cp "$state/kafka/libs/*" "$@"
}

kafka_start() {
  mkdir -p "$state/kafka"
  kafka_jars
  kafka_config
  if [ ! -e "$state/kafka/data/meta.properties" ]; then
    kafka_java kafka.tools.StorageTool format --standalone -t "$(kafka_java kafka.tools.StorageTool random-uuid)" \
      -c "$state/kafka/server.properties" >"$state/log/kafka-format.log" 2>&1 || {
      tail -n 20 "$state/log/kafka-format.log" >&2
      die "Kafka's storage could not be made; the whole log is $state/log/kafka-format.log"
    }
  fi
  daemon kafka java -Xms512m -Xmx512m -XX:+UseG1GC \
    -Dlog4j2.configurationFile="$root/scripts/kafka/log4j2.yaml" -cp "$state/kafka/libs/*" \
    kafka.Kafka "$state/kafka/server.properties"
}

kafka_stop() { stop_daemon kafka; }
