#!/usr/bin/env bash
# Tests the feature `gssapi`: builds the library with it, starts a Kerberos server and a Kafka that
# accepts only Kerberos, and pushes and pulls an event with a key table, and with a ticket. It needs
# libsasl2 with its headers and its GSSAPI plugin, and MIT Kerberos; if one is missing, it is
# skipped.
#
#   ci/gssapi.sh
set -euo pipefail
cd "$(dirname "$0")/.."

readonly realm=OCTOPUS.TEST
skip() {
    echo "skipped: gssapi: $*"
    exit
}
pkg-config --exists libsasl2 || skip 'libsasl2 is not installed (Debian: libsasl2-dev, libsasl2-modules-gssapi-mit)'
export PATH=$PATH:/usr/sbin
for program in krb5kdc kdb5_util kadmin.local kinit; do
    command -v "$program" >/dev/null || skip "$program is not installed (Debian: krb5-kdc, krb5-admin-server, krb5-user)"
done

built=$(ci/target.sh)
library=$built/gssapi/liboctopus.so
cargo build --locked -p octopus --features gssapi
mkdir -p "$built/gssapi"
# A copy, since cargo replaces the library when another step builds it without the feature.
cp "$built/debug/liboctopus.so" "$library"
[[ $(objdump -p "$library") == *libsasl2.so* ]] || { echo 'ci/gssapi.sh: the library is not linked to libsasl2' >&2 && exit 1; }

work=$(mktemp -d)
processes=()
end() {
    local process
    for process in "${processes[@]}"; do
        kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT

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
    }
END
kdb5_util create -s -P octopus-test-secret -r "$realm" >/dev/null
add_principal() { # principal, key table
    kadmin.local -q "addprinc -randkey $1" >/dev/null 2>&1
    kadmin.local -q "ktadd -k $2 $1" >/dev/null 2>&1
    [[ -s $2 ]] || { echo "ci/gssapi.sh: kadmin.local made no key table of $1" >&2 && exit 1; }
}
add_principal kafka/localhost "$work/kafka.keytab"
add_principal alice "$work/alice.keytab"
krb5kdc -n &
processes+=($!)

# --- Kafka ----------------------------------------------------------------------------------------

port=$(free_port)
login="com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
client=listener.name.client
coproc KAFKA {
    exec env JAVA_TOOL_OPTIONS="-Djava.security.krb5.conf=$KRB5_CONFIG" ci/kafka.sh --protocol SASL_PLAINTEXT \
        --port "$port" --advertised "localhost:$port" --set "$client.sasl.enabled.mechanisms=GSSAPI" \
        --set "$client.sasl.kerberos.service.name=kafka" --set 'sasl.kerberos.service.name=kafka' \
        --set "$client.gssapi.sasl.jaas.config=$login keyTab=\"$work/kafka.keytab\" principal=\"kafka/localhost@$realm\";"
}
processes+=("$KAFKA_PID")
read -r ready _ <&"${KAFKA[0]}" || true
[[ ${ready:-} == READY ]] || { echo 'ci/gssapi.sh: Kafka did not start; see above' >&2 && exit 1; }

# --- Octopus --------------------------------------------------------------------------------------

cat >"$work/client.py" <<'END'
import json
import sys

import diaspora_octopus as octopus

driver = octopus.Driver({"kafka": json.loads(sys.argv[1])})
driver.create_topic(sys.argv[2], num_partitions=1, replication_factor=1)
topic = driver.open_topic(sys.argv[2])
with topic.producer() as producer:
    producer.push({"by": "kerberos"}, b"data").wait(60)
with topic.consumer("reader") as consumer:
    print(consumer.pull(60).metadata)
END
octopus() { # topic, further properties
    KRB5CCNAME=FILE:$work/tickets OCTOPUS_LIBRARY=$library PYTHONPATH=plugin-tests/python timeout 180 python3 "$work/client.py" \
        '{"bootstrap.servers": "localhost:'"$port"'", "security.protocol": "sasl_plaintext", "sasl.mechanism": "GSSAPI", "sasl.kerberos.service.name": "kafka"'"$2}" "$1" 2>&1
}
fail() {
    printf 'ci/gssapi.sh: %s\n' "$*" >&2
    exit 1
}

with_keytab='"sasl.kerberos.principal": "alice", "sasl.kerberos.keytab":'
printed=$(octopus keytab ", $with_keytab \"$work/alice.keytab\"") || fail "with a key table: $printed"
[[ $printed == *"{'by': 'kerberos'}" ]] || fail "with a key table it printed: $printed"
# With the ticket of the user's own kinit; librdkafka does not run kinit then.
kinit -c "$work/tickets" -k -t "$work/alice.keytab" alice
printed=$(octopus ticket ', "sasl.kerberos.min.time.before.relogin": 0') || fail "with a ticket: $printed"
[[ $printed == *"{'by': 'kerberos'}" ]] || fail "with a ticket it printed: $printed"
rm "$work/tickets"
! printed=$(octopus none ', "sasl.kerberos.min.time.before.relogin": 0') || fail "without a ticket it printed: $printed"
[[ $printed == *'sasl'* && $printed != *Traceback*Traceback* ]] || fail "without a ticket the error is: $printed"
echo "without a ticket: $(tail -1 <<<"$printed")"
! printed=$(octopus missing ", $with_keytab \"$work/missing.keytab\"") || fail "without the key table it printed: $printed"
echo "without the key table: $(tail -1 <<<"$printed")"
echo 'ci/gssapi.sh: Kerberos by a key table and by a ticket works'
