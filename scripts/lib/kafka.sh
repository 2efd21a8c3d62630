# A single Kafka broker, which is also the controller (KRaft).
# shellcheck shell=bash
# shellcheck disable=SC2154  # $root and $state are set by scripts/services

kafka_mark() { echo "kafka.Kafka $state/kafka/server.properties"; }

kafka_answers() { alive kafka && kafka_brokers >/dev/null; }

# Requests Kafka's metadata, which lists the broker only once it has joined the cluster. An open port isn't enough: it
# opens before the broker can create topics.
kafka_brokers() (
  exec 3<>"/dev/tcp/127.0.0.1/$(port kafka)" || exit 1
  # Length 14, Metadata (3) version 1, correlation 0, no client id, no topics.
  printf '\0\0\0\16\0\3\0\1\0\0\0\0\377\377\0\0\0\0' >&3
  # Length, correlation, number of brokers: four bytes each.
  read -r -t 2 -a answer < <(head -c 12 <&3 | od -An -v -tu1) || exit 1
  [ "${answer[11]:-0}" -gt 0 ]
) 2>/dev/null

kafka_libs_version() { cksum <"$root/scripts/kafka/pom.xml"; }

kafka_has_jars() {
  [ -s "$state/kafka/libs/.made-from" ] && [ "$(cat "$state/kafka/libs/.made-from")" = "$(kafka_libs_version)" ]
}

# Downloads the jars with Maven: once, and again when the pom has changed.
kafka_jars() {
  local libs="$state/kafka/libs" log="$state/log/maven.log"
  kafka_has_jars && return 0
  say "downloading Kafka (only the first time)"
  rm -rf "$libs"
  mkdir -p "$libs"
  with_progress "$log" "downloading Kafka" mvn -B -f "$root/scripts/kafka/pom.xml" -DoutputDirectory="$libs" \
    -DincludeScope=runtime org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies ||
    die_with_log "$log" "Maven could not download Kafka. Fix the cause, then run: scripts/services up"
  kafka_libs_version >"$libs/.made-from"
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
# Each test creates a topic, which is mostly empty: small indexes save disk space.
log.index.size.max.bytes=1048576
# The cleaner compacts only the offsets of consumer groups, and no consumer here has a group.
log.cleaner.dedupe.buffer.size=4194304
CONFIG
}

kafka_format() {
  local log="$state/log/kafka-format.log" id
  # A Kafka id is 16 bytes in URL-safe base64. It begins with a letter: a leading dash would look like an option.
  id="M$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)"
  java -Xmx512m -Dlog4j2.configurationFile="$root/scripts/kafka/log4j2.yaml" -cp "$state/kafka/libs/*" \
    kafka.tools.StorageTool format --standalone -t "$id" -c "$state/kafka/server.properties" \
    </dev/null >"$log" 2>&1 || {
    rm -rf "$state/kafka/data"
    die_with_log "$log" "could not create Kafka's storage"
  }
}

kafka_start() {
  kafka_config
  [ -e "$state/kafka/data/meta.properties" ] || kafka_format
  daemon kafka java -Xms512m -Xmx512m -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \
    -XX:ErrorFile="$state/log/kafka-crash.log" -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$root/scripts/kafka/log4j2.yaml" -cp "$state/kafka/libs/*" \
    kafka.Kafka "$state/kafka/server.properties"
}

kafka_stop() { stop_daemon kafka; }

kafka_wipe() { rm -rf "$state/kafka/data"; }
