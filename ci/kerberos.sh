#!/usr/bin/env bash
# Tests Kerberos: starts a Kerberos server and a Kafka that accepts only Kerberos, with TLS and
# without. It pushes and pulls events with a key table and with a ticket, while tickets are renewed,
# and after one has expired. Then each failure has to produce its error. It needs MIT Kerberos; if a
# part is missing, it is skipped, with the status 77.
#
#   ci/kerberos.sh [LIBRARY]    the default library is that of the last debug build
set -euo pipefail
cd "$(dirname "$0")/.."

readonly realm=OCTOPUS.TEST ticket_lifetime=10s
skip() {
    echo "skipped: Kerberos: $*"
    exit 77
}
export PATH=$PATH:/usr/sbin
for program in krb5kdc kdb5_util kadmin.local kinit; do
    command -v "$program" >/dev/null || skip "$program is not installed (Debian: krb5-kdc, krb5-admin-server, krb5-user)"
done
library=$(realpath "${1:-$(ci/target.sh)/debug/liboctopus.so}")
source ci/servers.sh
[[ $(objdump -p "$library") != *NEEDED*@(sasl|gssapi)* ]] || fail 'the library needs one of Kerberos to be loaded'

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# --- Kerberos -------------------------------------------------------------------------------------

kdc_port=$(free_port)
export KRB5_CONFIG=$work/krb5.conf KRB5_KDC_PROFILE=$work/kdc.conf
cat >"$KRB5_CONFIG" <<END
[libdefaults]
    default_realm = $realm
    dns_lookup_kdc = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    kdc_timesync = 0
    ticket_lifetime = $ticket_lifetime
    renew_lifetime = 1h
[realms]
    $realm = {
        kdc = 127.0.0.1:$kdc_port
    }
[domain_realm]
    localhost = $realm
END
cat >"$KRB5_KDC_PROFILE" <<END
[kdcdefaults]
    kdc_listen = 127.0.0.1:$kdc_port
    kdc_tcp_listen = 127.0.0.1:$kdc_port
[realms]
    $realm = {
        database_name = $work/principal
        key_stash_file = $work/stash
        max_renewable_life = 1h
    }
END
kdb5_util create -s -P octopus-test-secret -r "$realm" >/dev/null
add_principal() { # principal, key table
    kadmin.local -q "addprinc -randkey $1" >/dev/null 2>&1
    kadmin.local -q "ktadd -k $2 $1" >/dev/null 2>&1
    [[ -s $2 ]] || fail "kadmin.local made no key table of $1"
}
add_principal kafka/localhost "$work/kafka.keytab"
add_principal alice "$work/alice.keytab"
krb5kdc -n &
processes+=($!)

# --- Kafka ----------------------------------------------------------------------------------------

login="com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
client=listener.name.client
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$work/key.pem" -out "$work/certificate.pem" \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>/dev/null
cat "$work/key.pem" "$work/certificate.pem" >"$work/kafka.pem"
start_kafka() { # protocol. Sets `port`, and the id of the process as the last one of `processes`.
    local ready
    port=$(free_port)
    coproc KAFKA {
        exec env JAVA_TOOL_OPTIONS="-Djava.security.krb5.conf=$KRB5_CONFIG" ci/kafka.sh --protocol "$1" \
            --port "$port" --advertised "localhost:$port" --set "$client.sasl.enabled.mechanisms=GSSAPI" \
            --set "$client.sasl.kerberos.service.name=kafka" --set 'sasl.kerberos.service.name=kafka' \
            --set "$client.connections.max.reauth.ms=4000" \
            --set "$client.ssl.keystore.type=PEM" --set "$client.ssl.keystore.location=$work/kafka.pem" \
            --set "$client.gssapi.sasl.jaas.config=$login keyTab=\"$work/kafka.keytab\" principal=\"kafka/localhost@$realm\";"
    }
    processes+=("$KAFKA_PID")
    read -r ready _ <&"${KAFKA[0]}" || true
    [[ ${ready:-} == READY ]] || fail "Kafka with $1 did not start; see above"
}
end_kafka() {
    kill "${processes[-1]}"
    wait "${processes[-1]}" 2>/dev/null || true
    unset 'processes[-1]'
}

# --- Octopus --------------------------------------------------------------------------------------

cat >"$work/client.py" <<'END'
import json
import os
import subprocess
import sys
import time

import diaspora_octopus as octopus

kafka, name, seconds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
driver = octopus.Driver({"kafka": kafka, "connect_timeout_ms": 5000})
driver.create_topic(name, num_partitions=1, replication_factor=1)
topic = driver.open_topic(name)


def push_and_pull(producer, consumer):
    """Until the time is over, at least once. Returns what happened."""
    end = time.monotonic() + seconds
    count = 0
    while count == 0 or time.monotonic() < end:
        producer.push({"by": "kerberos"}, b"data").wait(60)
        assert consumer.pull(60).metadata == {"by": "kerberos"}
        count += 1
        time.sleep(0.2)
    return f"events: {count}"


def outlive_ticket(producer, consumer):
    """Pushes while the ticket expires, until pushes are rejected for it. With a new ticket, each event
    whose push was accepted has to be delivered and read. Returns what happened."""
    pushes = [producer.push(0)]
    pushes[0].wait(60)
    assert consumer.pull(60).metadata == 0

    def rejection():
        try:
            pushes.append(producer.push(len(pushes)))
        except octopus.Error as error:
            return str(error)
        return None

    def push_until(is_reached, what):
        end = time.monotonic() + 60
        while not is_reached(rejection()):
            assert time.monotonic() < end, what
            time.sleep(0.1)

    push_until(lambda error: error is not None and "Ticket expired" in error, "no push is rejected for the expired ticket")
    waiting = sum(not push.done() for push in pushes)
    assert waiting > 0, "each event was delivered before its push was rejected"
    subprocess.run(os.environ["NEW_TICKET"].split(), check=True)
    push_until(lambda error: error is None, "pushes are rejected in spite of the new ticket")
    for push in pushes:
        push.wait(60)
    numbers = [consumer.pull(60).metadata for _ in pushes[1:]]
    assert numbers == list(range(1, len(pushes))), f"read {numbers}"
    assert driver.topic_exists(name)
    return f"{waiting} of {len(pushes)} events waited for the new ticket"


with topic.producer() as producer, topic.consumer(name) as consumer:
    outcome = (outlive_ticket if "NEW_TICKET" in os.environ else push_and_pull)(producer, consumer)
print("FAILED" if driver.stats()["failed"] else f"passed, {outcome}")
END
protocol=sasl_ssl
cache=$work/tickets
octopus() { # topic, further properties, seconds
    KRB5CCNAME=FILE:$cache OCTOPUS_LIBRARY=$library PYTHONPATH=plugin-tests/python timeout 180 python3 "$work/client.py" \
        '{"bootstrap.servers": "localhost:'"$port"'", "security.protocol": "'"$protocol"'", "sasl.mechanism": "GSSAPI"'"$2}" "$1" "${3:-0}" 2>&1
}
passes() { # what, topic, further properties, seconds
    local printed outcome began=$SECONDS
    printed=$(octopus "${@:2}") || fail "$1: $printed"
    outcome=$(tail -n 1 <<<"$printed")
    [[ $outcome == passed,* ]] || fail "$1: $printed"
    echo "$1: $outcome, $((SECONDS - began)) s"
}
fails_with() { # what, reason, topic, further properties
    local printed began=$SECONDS
    ! printed=$(octopus "${@:3}") || fail "$1: no error: $printed"
    [[ $printed == *"$2"* ]] || fail "$1: not the reason '$2': $printed"
    echo "$1, $((SECONDS - began)) s: $(tail -n 1 <<<"$printed")"
}

with_alice='"sasl.kerberos.principal": "alice", "sasl.kerberos.keytab": "'$work/alice.keytab'"'
get_ticket() { # cache, further options: gets a new ticket of alice
    kinit -c "$1" "${@:2}" -k -t "$work/alice.keytab" alice
}

start_kafka SASL_SSL
passes 'TLS' tls ", $with_alice, \"ssl.ca.location\": \"$work/certificate.pem\""
end_kafka
start_kafka SASL_PLAINTEXT
protocol=sasl_plaintext

# Each connection authenticates again every 4 s. These run at the same time.
runs=()
passes "a key table, with tickets of $ticket_lifetime" keytab ", $with_alice" 25 &
runs+=($!)
get_ticket "$work/renewed"
cache=$work/renewed passes "a ticket of $ticket_lifetime that is renewed" renewed '' 25 &
runs+=($!)
# It is renewed until that program ends.
while kill -0 "${runs[1]}" 2>/dev/null; do
    sleep 3
    kinit -R -c "$work/renewed" && echo renewed >>"$work/renewals"
done &
runs+=($!)
get_ticket "$work/expiring"
NEW_TICKET="kinit -c $work/expiring -l 10m -k -t $work/alice.keytab alice" cache=$work/expiring \
    passes "a ticket of $ticket_lifetime that expires, and a new one" expiring '' &
runs+=($!)
failed=0
for run in "${runs[@]}"; do
    wait "$run" || failed=1
done
((failed == 0)) || exit 1
(($(wc -l <"$work/renewals") >= 5)) || fail 'the ticket was not renewed'

passes 'a key table with one principal' only-key ', "sasl.kerberos.keytab": "'"$work/alice.keytab"'"'
get_ticket "$cache" -l 10m
passes 'a ticket of the user' ticket ''
passes 'a ticket of a principal' named-ticket ', "sasl.kerberos.principal": "alice"'
fails_with 'another principal than the ticket has' 'a ticket of bob' named-bob ', "sasl.kerberos.principal": "bob"'
fails_with 'an unknown service' 'see kafka.sasl.kerberos.service.name' service ', "sasl.kerberos.service.name": "kofka"'

# A clock that is an hour ahead, for the system's library only.
cat >"$work/skew.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
static long ahead(void *caller)
{
    Dl_info of;
    return dladdr(caller, &of) && strstr(of.dli_fname, "krb5") ? 3600 : 0;
}
int gettimeofday(struct timeval *now, void *zone)
{
    int (*real)(struct timeval *, void *) = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    now->tv_sec += ahead(__builtin_return_address(0));
    return result;
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += ahead(__builtin_return_address(0));
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
END
cc -shared -fPIC -w -o "$work/skew.so" "$work/skew.c" -ldl
LD_PRELOAD=$work/skew.so fails_with 'a wrong clock' 'Clock skew too great' skew ", $with_alice"

get_ticket "$cache" -l 1s
sleep 2
fails_with 'an expired ticket' 'Ticket expired' expired ''
rm "$cache"
fails_with 'no ticket' 'run kinit' none ''
fails_with 'no key table' 'reading it: No such file' missing ', "sasl.kerberos.principal": "alice", "sasl.kerberos.keytab": "'"$work/missing.keytab"'"'
fails_with 'a principal that the key table does not have' 'it has no such key' wrong ', "sasl.kerberos.principal": "bob", "sasl.kerberos.keytab": "'"$work/alice.keytab"'"'
kill "${processes[0]}"
wait "${processes[0]}" 2>/dev/null || true
fails_with 'no key distribution center' 'Cannot contact any KDC' no-kdc ", $with_alice"

hidden=$(ldconfig -p | sed -n 's/.*libgssapi_krb5.so.2 .*=> //p' | head -n 1)
if unshare --mount true 2>/dev/null; then
    ! printed=$(unshare --mount bash -c "mount --bind /dev/null '$(realpath "$hidden")'; KRB5CCNAME=FILE:$cache \
        OCTOPUS_LIBRARY='$library' PYTHONPATH=plugin-tests/python python3 '$work/client.py' \
        '{\"bootstrap.servers\": \"localhost:$port\", \"security.protocol\": \"sasl_plaintext\"}' no-library 0" 2>&1) ||
        fail "without the library: no error: $printed"
    [[ $printed == *'loading libgssapi_krb5.so.2: '* ]] || fail "without the library: $printed"
    echo "no library: $(tail -n 1 <<<"$printed")"
else
    echo 'skipped: no library: this user can'\''t create mount namespaces'
fi
echo 'ci/kerberos.sh: Kerberos by a key table and by a ticket works'
