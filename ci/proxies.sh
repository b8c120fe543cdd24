#!/usr/bin/env bash
# Tests the option `proxy` with real proxies. The client is in a network namespace whose only
# neighbors are the proxies; Kafka and the web services are behind them, and the client does not
# know their names. It needs root, and microsocks, dante-server and tinyproxy; if one is missing, it
# is skipped.
#
#   ci/proxies.sh [LIBRARY]    the default library is that of the last debug build
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH=$PATH:/usr/sbin
skip() {
    echo "skipped: proxies: $*"
    exit 77
}
library=$(realpath "${1:-$(ci/target.sh)/debug/liboctopus.so}")
if [[ -z ${INSIDE_NAMESPACE:-} ]]; then
    for program in microsocks danted tinyproxy ip nsenter unshare; do
        command -v "$program" >/dev/null ||
            skip "$program is not installed (Debian: microsocks, dante-server, tinyproxy, iproute2, util-linux)"
    done
    unshare --net --mount true 2>/dev/null || skip 'this user can'\''t create network namespaces'
    exec env INSIDE_NAMESPACE=1 unshare --net --mount "$0" "$library"
fi

readonly gate=10.78.0.1 client=10.78.0.2 broker_port=9093 service_port=8000 tls_service_port=8443
source ci/servers.sh
chmod 755 "$work"

# --- the namespaces: this one, of the servers, and that of the client -----------------------------

printf '127.0.0.1 localhost broker.cluster.test service.cluster.test\n' >"$work/hosts"
printf '127.0.0.1 localhost\n' >"$work/client-hosts"
mount --bind "$work/hosts" /etc/hosts
ip link set lo up
unshare --net --mount sleep infinity &
namespace=$!
processes+=("$namespace")
in_client() { nsenter --target "$namespace" --net --mount "$@"; }
until [[ $(readlink "/proc/$namespace/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.01; done
ip link add gate type veth peer name client netns "$namespace"
ip address add "$gate/30" dev gate
ip link set gate up
in_client ip address add "$client/30" dev client
in_client ip link set client up
in_client ip link set lo up
in_client mount --bind "$work/client-hosts" /etc/hosts

# --- Kafka with TLS, and web services -------------------------------------------------------------

make_certificate() { # host, file of the certificate, file of both certificate and key
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$work/key.pem" -out "$2" \
        -subj "/CN=$1" -addext "subjectAltName=DNS:$1" 2>/dev/null
    cat "$work/key.pem" "$2" >"$3"
}
make_certificate broker.cluster.test "$work/certificate.pem" "$work/broker.pem"
make_certificate service.cluster.test "$work/service-certificate.pem" "$work/service.pem"
coproc KAFKA {
    exec ci/kafka.sh --protocol SSL --port "$broker_port" --advertised "broker.cluster.test:$broker_port" \
        --set listener.name.client.ssl.keystore.type=PEM --set "listener.name.client.ssl.keystore.location=$work/broker.pem"
}
processes+=("$KAFKA_PID")
touch "$work/requests"
python3 plugin-tests/python/proxies/servers.py service "$service_port" "$work/requests" &
processes+=($!)
python3 plugin-tests/python/proxies/servers.py service "$tls_service_port" "$work/requests" "$work/service.pem" &
processes+=($!)
# A server that accepts connections and never responds, one that closes them, and one that sends
# only the first byte of its reply.
python3 plugin-tests/python/proxies/servers.py silent "$gate:1090" &
processes+=($!)
python3 plugin-tests/python/proxies/servers.py closing "$gate:1091" &
processes+=($!)
python3 plugin-tests/python/proxies/servers.py stalling "$gate:1092" &
processes+=($!)

# --- the proxies ----------------------------------------------------------------------------------

microsocks -i "$gate" -p 1080 >"$work/microsocks.log" 2>&1 &
processes+=($!)
microsocks -i "$gate" -p 1081 -u alice -P 'open/sesame:1' >"$work/microsocks.log" 2>&1 &
processes+=($!)
cat >"$work/danted.conf" <<END
internal: $gate port = 1082
external: lo
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 port = 9999 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
END
danted -f "$work/danted.conf" -p "$work/danted.pid" 2>"$work/danted.log" &
processes+=($!)
printf '%s\n' 'Port 8888' "Listen $gate" 'Timeout 600' 'MaxClients 100' 'BasicAuth alice sesame' \
    "ConnectPort $broker_port" "ConnectPort $service_port" "ConnectPort $tls_service_port" 'ConnectPort 1' >"$work/tinyproxy.conf"
tinyproxy -d -c "$work/tinyproxy.conf" >"$work/tinyproxy.log" 2>&1 &
processes+=($!)
wait_for() { # what, command...
    local end=$((SECONDS + 60)) what=$1
    shift
    until "$@" 2>/dev/null; do
        ((SECONDS < end)) || fail "$what did not start: $(tail -n 5 "$work"/*.log)"
        sleep 0.1
    done
}
accepts() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
for port in 1080 1081 1082 1090 1091 1092 8888; do
    wait_for "the proxy at port $port" accepts "$gate" "$port"
done
for port in "$service_port" "$tls_service_port"; do
    wait_for "the web service at port $port" accepts 127.0.0.1 "$port"
done
read -r ready _ <&"${KAFKA[0]}" || true
[[ ${ready:-} == READY ]] || fail 'Kafka did not start; see above'

# --- the client -----------------------------------------------------------------------------------

! in_client timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$broker_port" 2>/dev/null || fail 'the client reaches Kafka directly'
run() { # hosts of the client, tests...
    local hosts=$1
    shift
    in_client unshare --mount bash -c "mount --bind '$hosts' /etc/hosts; exec \"\$@\"" - \
        env OCTOPUS_LIBRARY="$library" OCTOPUS_TEST_PROXIES="$work" OCTOPUS_TEST_SERVERS=$$ \
        PYTHONPATH="$PWD/plugin-tests/python" \
        timeout 600 python3 -m unittest -v "$@"
}
run "$work/client-hosts" proxies.test_proxies proxies.test_web_services
# With socks5 the client resolves names.
run "$work/hosts" proxies.test_local_names
