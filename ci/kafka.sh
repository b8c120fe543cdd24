#!/usr/bin/env bash
# Starts an Apache Kafka on free loopback ports for the tests of Octopus, and stops it when the
# process that started it ends.
set -euo pipefail

readonly default_version=4.3.1 # the tests use its tools, whatever the version of the brokers
readonly log4j_version=2.25.4  # the version of log4j that this Kafka uses
readonly start_timeout=60      # seconds for all brokers to start
readonly stop_timeout=10       # seconds for all brokers to end before they are killed

usage() {
    cat <<'HELP'
Usage: ci/kafka.sh [option...]

Starts Apache Kafka on 127.0.0.1 and prints one line to stdout when every broker is up:

    READY host:port[,host:port...] [host:port[,host:port...]]

It prints the second addresses with --protocol only.

It runs until its stdin closes or it gets SIGTERM or SIGINT (Ctrl-D or Ctrl-C in a terminal), then stops the brokers and
removes their data. With stdin at /dev/null it would end at once: use --stay.

  --kafka VERSION  the version of Kafka (default: OCTOPUS_TEST_KAFKA_VERSION, or 4.3.1); before 3.3 with ZooKeeper
  --brokers N      the number of nodes, each a broker and a controller (default: 1)
  --protocol P     the protocol of clients: SSL, SASL_SSL or SASL_PLAINTEXT, configured by --set listener.name.client.…
                   (default: PLAINTEXT). Brokers and tools use PLAINTEXT at the second addresses
  --class-path C   an additional class path for the brokers
  --set KEY=VALUE  a broker property; may be repeated, and overrides the properties of this script
  --dir DIR        the folder for data and broker-N.log; it is kept, and the next start uses its data
                   (default: a temporary folder, removed at the end)
  --port P         the port of the only broker (default: a free one)
  --advertised A   the advertised addresses, host:port,..., one for each broker, for proxies in front of the brokers
                   (default: the addresses of the brokers)
  --stay           ignore stdin, and run until a signal
  --prepare        only create the brokers' data in --dir and print the READY line; --run starts the brokers
  --run N          run broker N of a --dir that --prepare has created, as this process, and log to stdout
  --jars-only      only fetch the jars of Kafka 4.3.1 and its tools, and print their folder
  --help           print this text

Needs java 17 or later, perl, and for the first run mvn, which fetches Kafka to target/kafka.
HELP
}

say() { echo "kafka.sh: $*" >&2; }

give_up() {
    say "$*"
    exit 1
}

need() { command -v "$1" >/dev/null || give_up "$1 is missing: $2"; }

kafka_version=${OCTOPUS_TEST_KAFKA_VERSION:-$default_version}
brokers=1
port=
data=
settings=
protocol=PLAINTEXT
class_path=
advertised=()
stay=false
jars_only=false
prepare=false
run=

read_options() {
    while (($#)); do
        case $1 in
        --kafka | --brokers | --set | --dir | --port | --protocol | --class-path | --advertised | --run)
            (($# > 1)) || give_up "$1 needs a value"
            case $1 in
            --kafka) kafka_version=$2 ;;
            --brokers) brokers=$2 ;;
            --set) settings+=$2$'\n' ;;
            --dir) data=$2 ;;
            --port) port=$2 ;;
            --protocol) protocol=$2 ;;
            --class-path) class_path=$2: ;;
            --advertised) IFS=, read -ra advertised <<<"$2" ;;
            --run) run=$2 ;;
            esac
            shift 2
            ;;
        --stay) stay=true && shift ;;
        --jars-only) jars_only=true && kafka_version=$default_version && shift ;;
        --prepare) prepare=true && shift ;;
        --help) usage && exit ;;
        *) give_up "unknown option $1, see --help" ;;
        esac
    done
    [[ $kafka_version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || give_up "--kafka takes a version such as 4.3.1, not '$kafka_version'"
    [[ $brokers =~ ^[1-9][0-9]?$ ]] || give_up "--brokers takes a number from 1 to 99, not '$brokers'"
    [[ $protocol =~ ^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$ ]] || give_up "--protocol takes a Kafka one, not '$protocol'"
    [[ -z $port || $brokers == 1 ]] || give_up "--port is for one broker only"
    [[ ${#advertised[@]} == 0 || ${#advertised[@]} == "$brokers" ]] || give_up "--advertised takes an address for each broker"
    ! $prepare && [[ -z $run ]] || [[ $data ]] || give_up "--prepare and --run need --dir"
    ! needs_zookeeper || { ! $prepare && [[ -z $run ]]; } || give_up "--prepare and --run need a Kafka without ZooKeeper"
    libs=$store/$kafka_version/libs
}

# Kafka needs no ZooKeeper since 3.3. KRaft in 2.8 has no transactions.
needs_zookeeper() { [[ $kafka_version =~ ^(2\.|3\.[0-2]\.) ]]; }

# --- Kafka's jars ---------------------------------------------------------------------------------

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
store=$("$root/ci/target.sh")/kafka
readonly store
libs=

# Kafka's jars don't depend on a logging backend, so the POM adds the binding of slf4j to log4j. Old
# versions or their ZooKeeper depend on other bindings, which it excludes.
pom() {
    local artifact
    echo '<project><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>octopus</groupId><artifactId>kafka-for-tests</artifactId><version>1</version><dependencies>'
    for artifact in kafka_2.13 kafka-tools; do
        cat <<XML
<dependency>
  <groupId>org.apache.kafka</groupId><artifactId>$artifact</artifactId><version>$kafka_version</version>
  <exclusions>
    <exclusion><groupId>log4j</groupId><artifactId>log4j</artifactId></exclusion>
    <exclusion><groupId>ch.qos.reload4j</groupId><artifactId>reload4j</artifactId></exclusion>
    <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-log4j12</artifactId></exclusion>
    <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
  </exclusions>
</dependency>
XML
    done
    for artifact in log4j-slf4j-impl log4j-1.2-api; do
        cat <<XML
<dependency>
  <groupId>org.apache.logging.log4j</groupId><artifactId>$artifact</artifactId><version>$log4j_version</version>
</dependency>
XML
    done
    echo '</dependencies></project>'
}

# The folder is renamed into place when it is complete. The lock has other runs wait for the one
# that fetches.
fetch_jars() {
    [[ ! -d $libs ]] || return 0
    need mvn "install Apache Maven (Debian: apt install maven)"
    need flock "install util-linux"
    mkdir -p "$store"
    (
        flock 9
        [[ ! -d $libs ]] || exit 0
        say "fetching Kafka $kafka_version"
        fetched=$(mktemp -d "$store/fetch.XXXXXX")
        trap 'rm -rf "$fetched"' EXIT
        pom >"$fetched/pom.xml"
        (cd "$fetched" && mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs -DincludeScope=runtime) \
            </dev/null >&2 9>&- || give_up "mvn could not fetch Kafka $kafka_version"
        mv "$fetched" "$store/$kafka_version"
    ) 9>"$store/lock"
}

check_java() {
    local hint="install a JRE, 17 or later (Debian: apt install default-jre-headless)" version
    need java "$hint"
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    ((${version:-0} >= 17)) || give_up "java is too old for Kafka $kafka_version: $hint"
}

# --- The cluster ----------------------------------------------------------------------------------

pids=()             # of the brokers, in their order
zookeeper_pid=      # of ZooKeeper, for old brokers
broker_ports=()     # for clients
controller_ports=() # for controllers
internal_ports=()   # for brokers and tools, if clients use another protocol
stdin_watch=        # pid of the process that waits for the end of stdin

log_of() { echo "$data/broker-$1.log"; }

# Binds all ports at the same time before it releases any, so that they differ.
choose_ports() {
    local free
    free=$(perl -MIO::Socket::INET -e '
        my @held = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) or die "no free port: $!" } 1 .. shift;
        print join " ", map { $_->sockport } @held;
    ' $((3 * brokers)))
    read -ra free <<<"$free"
    broker_ports=("${free[@]:0:brokers}")
    controller_ports=("${free[@]:brokers:brokers}")
    [[ $protocol == PLAINTEXT ]] || internal_ports=("${free[@]:2 * brokers}")
    [[ -z $port ]] || broker_ports=("$port")
}

# The clients' listener has a separate name, so that --protocol and --set can secure it.
# auto.create.topics.enable creates a topic on a mere metadata request, so the tests fail if Octopus
# causes that.
write_settings() {
    local voters=() node internal inter_broker=CLIENT addresses=("${broker_ports[@]/#/127.0.0.1:}")
    ((${#advertised[@]} == 0)) || addresses=("${advertised[@]}")
    [[ $protocol == PLAINTEXT ]] || inter_broker=INTERNAL
    local replicas=$((brokers < 3 ? brokers : 3))
    for ((node = 1; node <= brokers; node++)); do voters+=("$node@127.0.0.1:${controller_ports[node - 1]}"); done
    for ((node = 1; node <= brokers; node++)); do
        internal=${internal_ports[*]:+,INTERNAL://127.0.0.1:${internal_ports[node - 1]:-}}
        if needs_zookeeper; then
            cat <<PROPERTIES
broker.id=$node
zookeeper.connect=127.0.0.1:${controller_ports[0]}
listeners=CLIENT://127.0.0.1:${broker_ports[node - 1]}$internal
PROPERTIES
        else
            cat <<PROPERTIES
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$(IFS=, && echo "${voters[*]}")
listeners=CLIENT://127.0.0.1:${broker_ports[node - 1]}$internal,CONTROLLER://127.0.0.1:${controller_ports[node - 1]}
controller.listener.names=CONTROLLER
PROPERTIES
        fi >"$data/broker-$node.properties"
        cat >>"$data/broker-$node.properties" <<PROPERTIES
advertised.listeners=CLIENT://${addresses[node - 1]}$internal
listener.security.protocol.map=CLIENT:$protocol,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=$inter_broker
log.dirs=$data/broker-$node
auto.create.topics.enable=true
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$replicas
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$((brokers == 3 ? 2 : 1))
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=1
$settings
PROPERTIES
    done
    cat >"$data/log4j2.properties" <<'PROPERTIES'
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
# These loggers report that the server has started.
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
logger.zookeepers.name = kafka.server.KafkaServer
logger.zookeepers.level = INFO
PROPERTIES
    cat >"$data/zookeeper.properties" <<PROPERTIES
dataDir=$data/zookeeper
clientPort=${controller_ports[0]}
clientPortAddress=127.0.0.1
admin.enableServer=false
maxClientCnxns=0
PROPERTIES
}

# Replaces this shell by a Java program of Kafka. The kernel ends it when this script is killed.
become_java() {
    exec setpriv --pdeathsig TERM java -Xms128m -Xmx512m -Djdk.nio.maxCachedBufferSize=1000000 -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -Dlog4j2.configurationFile="$data/log4j2.properties" -cp "$class_path$libs/*" "$@" </dev/null
}

# A random UUID as Kafka writes it, but without "-", which a command line could take for an option.
new_cluster_id() { head -c 16 /dev/urandom | base64 | tr -d = | tr '+/' 'ab'; }

format_data() {
    local cluster_id node
    [[ ! -e $data/broker-1/meta.properties ]] && ! needs_zookeeper || return 0
    cluster_id=$(new_cluster_id)
    for ((node = 1; node <= brokers; node++)); do
        (become_java kafka.tools.StorageTool format --cluster-id "$cluster_id" \
            --config "$data/broker-$node.properties") >"$(log_of "$node")" 2>&1 ||
            give_up_with_log "$node" "the data of broker $node could not be formatted"
    done
}

start_brokers() {
    local node
    if needs_zookeeper; then
        become_java org.apache.zookeeper.server.ZooKeeperServerMain "$data/zookeeper.properties" >"$data/zookeeper.log" 2>&1 &
        zookeeper_pid=$!
    fi
    for ((node = 1; node <= brokers; node++)); do
        become_java kafka.Kafka "$data/broker-$node.properties" >"$(log_of "$node")" 2>&1 &
        pids+=($!)
    done
}

give_up_with_log() {
    tail -n 40 "$(log_of "$1")" | sed "s/^/broker $1: /" >&2
    give_up "$2"
}

is_up() {
    grep -qE 'Kafka Server started|\[KafkaServer id=[0-9]+\] started' "$(log_of "$1")" &&
        (exec 3<>"/dev/tcp/127.0.0.1/${broker_ports[$1 - 1]}") 2>/dev/null
}

# Prints the number of a broker that has ended, if any.
ended_broker() {
    local node
    for ((node = 1; node <= brokers; node++)); do
        kill -0 "${pids[node - 1]}" 2>/dev/null || { echo "$node" && break; }
    done
}

# Succeeds when all brokers are up, fails if a port was in use, and ends the script on any other
# failure.
await_brokers() {
    local deadline=$((SECONDS + start_timeout)) node ended
    for ((node = 1; node <= brokers; node++)); do
        until is_up "$node"; do
            ended=$(ended_broker)
            if [[ $ended ]]; then
                ! grep -q 'Address already in use' "$(log_of "$ended")" || return 1
                give_up_with_log "$ended" "broker $ended ended while starting"
            fi
            ((SECONDS < deadline)) || give_up_with_log "$node" "broker $node is not up after $start_timeout s"
            sleep 0.1
        done
    done
}

end_brokers() {
    local deadline=$((SECONDS + stop_timeout)) pid
    kill -TERM "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}" $zookeeper_pid; do
        # ZooKeeper is stopped after the brokers, which deregister from it.
        [[ $pid != "$zookeeper_pid" ]] || kill -TERM "$pid" 2>/dev/null || true
        while kill -0 "$pid" 2>/dev/null; do
            ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.1
        done
    done
    pids=()
    zookeeper_pid=
}

# Another process may bind a free port before the broker does, hence several attempts.
start_cluster() {
    local attempt
    for attempt in 1 2 3; do
        choose_ports
        write_settings
        format_data
        start_brokers
        ! await_brokers || return 0
        say "a port was in use (attempt $attempt)"
        end_brokers
    done
    give_up "a port was in use in each of 3 attempts"
}

print_ready() {
    local addresses=("${broker_ports[@]/#/127.0.0.1:}") internal=("${internal_ports[@]/#/127.0.0.1:}")
    (IFS=, && echo "READY ${addresses[*]}${internal[*]:+ ${internal[*]}}")
}

# Returns when stdin closes. A signal ends the script here, and a broker that ends by itself is a
# failure.
run_until_stdin_closes() {
    local ended
    $stay || { cat <&0 >/dev/null & stdin_watch=$!; }
    wait -n "${pids[@]}" $stdin_watch || true
    ended=$(ended_broker)
    [[ -z $ended ]] || give_up_with_log "$ended" "broker $ended ended by itself"
}

# --- The run --------------------------------------------------------------------------------------

read_options "$@"
check_java
fetch_jars
if $jars_only; then
    echo "$libs"
    exit
fi
need perl "install perl"
need setpriv "install util-linux"

if [[ $run ]]; then
    become_java kafka.Kafka "$data/broker-$run.properties"
fi

keep_data=true
if [[ $data ]]; then
    mkdir -p "$data"
    data=$(cd "$data" && pwd)
    # Brokers inherit the lock, and have it until they end.
    exec 8>"$data/lock"
    flock --timeout 10 8 || give_up "another Kafka uses $data"
else
    data=$(mktemp -d "${TMPDIR:-/tmp}/octopus-kafka.XXXXXX")
    keep_data=false
fi

clean_up() {
    trap '' HUP INT TERM
    [[ -z $stdin_watch ]] || kill "$stdin_watch" 2>/dev/null || true
    ((${#pids[@]} == 0)) || end_brokers
    $keep_data || rm -rf "$data"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if $prepare; then
    choose_ports
    write_settings
    format_data
    print_ready
    exit
fi
start_cluster
print_ready
run_until_stdin_closes
