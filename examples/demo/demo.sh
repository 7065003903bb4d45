#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two clusters on one machine, in network namespaces: what ./run demo starts. Everything printed comes from the running system.
#
#   demo.sh [--flat] [--keep]   --flat: one network instead of two; --keep: leave it running at the end
#   demo.sh --clean             end what --keep left
#
# ISTHMUS_DEMO_PREFIX (ism) and ISTHMUS_DEMO_DIR (/run/isthmus-demo) let a second one run beside the first.
#
# Namespaces per cluster N (1, 2), joined by a bridge in ism-N-node, which is also their router:
#   ism-N-cp      peeringd                      10.N0.0.2
#   ism-N-gw      hbone, east-west gateway      10.N0.0.3 and 172.18.0.1N on the network between the clusters
#   ism-N-v1/-v2  echo pods, each with an hbone 10.N0.0.11, 10.N0.0.12
#   ism-N-client  client pod with an hbone      10.N0.0.20
# Without --flat no pod address of one cluster can be reached from the other: only the gateways can.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${ISTHMUS_BIN:-$root/build/release}
dir=${ISTHMUS_DEMO_DIR:-/run/isthmus-demo}
pre=${ISTHMUS_DEMO_PREFIX:-ism} # of the namespaces, so that a test can run beside a demo
flat=0 keep=0 clean=0 check=0
for arg in "$@"; do
    case $arg in
    --flat) flat=1 ;;
    --keep) keep=1 ;;
    --clean) clean=1 ;;
    --check) check=1 ;; # for ./run: are these arguments and this user fine, before anything is built
    -h | --help) sed -n '3,8p' "$0" | cut -c3-; exit 0 ;;
    *) echo "demo: unknown option $arg (known: --flat, --keep, --clean)" >&2; exit 2 ;;
    esac
done
if [ "$(id -u)" != 0 ]; then
    echo "demo: needs root, because it makes network namespaces; try: sudo ./run demo" >&2
    exit 1
fi
[ $check = 0 ] || exit 0

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n%s\n' "$*"; }
die() { echo "demo: $*" >&2; exit 1; }

all_namespaces() { ip netns list 2>/dev/null | awk -v pre="$pre" '$1 ~ "^" pre "-([12]-|wan$)" {print $1}'; }

cleanup() {
    local ns pids
    for ns in $(all_namespaces); do
        pids=$(ip netns pids "$ns" 2>/dev/null || true)
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    done
    for ns in $(all_namespaces); do
        ip netns del "$ns" 2>/dev/null || true
        rm -rf "/etc/netns/${ns:?}"
    done
    rmdir /etc/netns 2>/dev/null || true
    rm -rf "${dir:?}"
}

finish() {
    local status=$?
    trap '' INT TERM HUP # nothing stops the cleaning up half-way
    trap - EXIT
    if [ $status -eq 130 ] || [ $status -eq 143 ] || [ $status -eq 129 ]; then
        echo "demo: interrupted; cleaning up" >&2
    elif [ $status -ne 0 ] && ls "$dir"/log/*.log >/dev/null 2>&1; then
        echo "demo: failed; last lines of the logs:" >&2
        tail -n 5 "$dir"/log/*.log >&2 || true
    fi
    if [ $keep = 1 ] && [ $status -eq 0 ]; then
        exit 0
    fi
    cleanup
    rm -f "$dir.lock"
    exit $status
}

if [ $clean = 0 ]; then
    for tool in ip curl iptables; do
        command -v $tool >/dev/null || die "$tool is missing; ./run demo installs it"
    done
    for program in peeringd hbone peerctl echo-server; do
        [ -x "$(find "$bin" -name $program -type f -perm -u+x 2>/dev/null | head -n1)" ] || die "$program is not built in $bin"
    done
fi
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock -w 5 9 || die "another demo is running on this machine; end it, or give this one its own ISTHMUS_DEMO_PREFIX and ISTHMUS_DEMO_DIR"
if [ $clean = 1 ]; then
    cleanup
    rm -f "$dir.lock"
    exit 0
fi
prog() { find "$bin" -name "$1" -type f -perm -u+x | head -n1; }
peeringd=$(prog peeringd) hbone=$(prog hbone) peerctl=$(prog peerctl) echo_server=$(prog echo-server)

# --- network ---------------------------------------------------------------------------------------------------
iptables_for() { # one that works in this kernel
    local candidate
    for candidate in iptables iptables-legacy; do
        if command -v $candidate >/dev/null && ip netns exec "$1" $candidate -t nat -L -n >/dev/null 2>&1; then
            echo $candidate
            return
        fi
    done
    die "this kernel offers no iptables nat table in network namespaces (needed: nf_nat, xt_REDIRECT)"
}

attach() { # namespace bridge-namespace address gateway
    local ns=$1 node=$2 address=$3 gateway=$4 tail
    tail=$(echo "$ns" | tr -d '-' | tail -c 11)
    ip netns add "$ns"
    ip -n "$ns" link set lo up
    ip link add "v$tail" netns "$node" type veth peer name eth0 netns "$ns"
    ip -n "$node" link set "v$tail" master br0 up
    ip -n "$ns" addr add "$address/24" dev eth0
    ip -n "$ns" link set eth0 up
    [ -z "$gateway" ] || ip -n "$ns" route add default via "$gateway"
    mkdir -p "/etc/netns/$ns"
    echo "nameserver $gateway" >"/etc/netns/$ns/resolv.conf"
    printf '127.0.0.1 localhost\n10.%s0.0.2 istiod.istio-system.svc\n' "$(echo "$ns" | cut -d- -f2)" >"/etc/netns/$ns/hosts"
}

make_network() {
    local n other ns
    ip netns add $pre-wan || die "cannot make a network namespace (needs CONFIG_NET_NS, CAP_SYS_ADMIN, and to mount on /run/netns)"
    ip -n $pre-wan link set lo up || die "cannot enter a network namespace (the message above says why)"
    ip -n $pre-wan link add br0 type bridge || die "cannot make a bridge (needs CONFIG_BRIDGE in the kernel)"
    ip -n $pre-wan link set br0 up
    for n in 1 2; do
        ns=$pre-$n-node
        ip netns add $ns
        ip -n $ns link set lo up
        ip -n $ns link add br0 type bridge
        ip -n $ns addr add 10.${n}0.0.1/24 dev br0
        ip -n $ns link set br0 up
        ip link add wan${n} netns $pre-wan type veth peer name wan netns $ns
        ip -n $pre-wan link set wan${n} master br0 up
        ip -n $ns addr add 172.18.0.$n/24 dev wan
        ip -n $ns link set wan up
        ip netns exec $ns sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
        [ -n "${ipt:-}" ] || ipt=$(iptables_for $ns)
        attach $pre-$n-cp $ns 10.${n}0.0.2 10.${n}0.0.1
        attach $pre-$n-gw $ns 10.${n}0.0.3 10.${n}0.0.1
        attach $pre-$n-v1 $ns 10.${n}0.0.11 10.${n}0.0.1
        attach $pre-$n-v2 $ns 10.${n}0.0.12 10.${n}0.0.1
        attach $pre-$n-client $ns 10.${n}0.0.20 10.${n}0.0.1
        ip link add gw${n} netns $pre-wan type veth peer name wan netns $pre-$n-gw
        ip -n $pre-wan link set gw${n} master br0 up
        ip -n $pre-$n-gw addr add 172.18.0.1$n/24 dev wan
        ip -n $pre-$n-gw link set wan up
    done
    for n in 1 2; do
        other=$((3 - n))
        if [ $flat = 1 ]; then
            ip -n $pre-$n-node route add 10.${other}0.0.0/24 via 172.18.0.$other
            ip -n $pre-$n-gw route add 10.${other}0.0.0/24 via 10.${n}0.0.1
        fi
        ip netns exec $pre-$n-node $ipt -t nat -A POSTROUTING -o wan -s 10.${n}0.0.0/24 ! -d 10.0.0.0/8 -j MASQUERADE
    done
}

redirect() { # what the CNI programs in a captured pod
    local ns=$1
    ip netns exec "$ns" $ipt-restore <<RULES
*mangle
-A PREROUTING -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xfff --ctmask 0xfff
COMMIT
*nat
-A OUTPUT ! -o lo -p udp -m mark ! --mark 0x539/0xfff --dport 53 -j REDIRECT --to-ports 15053
-A OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff --dport 53 -j REDIRECT --to-ports 15053
-A OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A OUTPUT ! -d 127.0.0.1/32 -o lo -j ACCEPT
-A OUTPUT ! -d 127.0.0.1/32 -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
-A PREROUTING ! -d 127.0.0.1/32 ! -i lo -p tcp -m mark ! --mark 0x539/0xfff ! --dport 15008 -j REDIRECT --to-ports 15006
COMMIT
RULES
    ip -n "$ns" rule add fwmark 0x111/0xfff pref 32764 lookup 100
    ip -n "$ns" route add local default dev lo table 100
}

# --- programs --------------------------------------------------------------------------------------------------
start() { # namespace log-name command...
    local ns=$1 name=$2
    shift 2
    # Kept, so that a program can be killed and started again: bash $dir/cmd/NAME
    {
        printf 'ip netns exec %q' "$ns"
        printf ' %q' "$@"
        printf ' >>%q 2>&1 </dev/null &\necho $! >%q\n' "$dir/log/$name.log" "$dir/pid/$name"
    } >"$dir/cmd/$name"
    bash "$dir/cmd/$name" 9>&- # which must not hold the lock
}

wait_for() { # what seconds command...
    local what=$1 seconds=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || die "waited $seconds s for $what in vain"
        read -rt 0.1 <> <(:) || true
    done
}

token() { "$peerctl" certs token --dir "$dir/certs/issuer$1" --namespace "$2" --service-account "$3" --pod "$4"; }

start_peeringd() {
    local n=$1
    start $pre-$n-cp cluster$n-peeringd "$peeringd" --cluster cluster$n --manifests "$dir/cluster$n/manifests" \
        --cacerts "$dir/certs/cluster$n" --state "$dir/cluster$n/state" --jwks "$dir/certs/issuer$n/jwks.json" \
        --admin-socket "$dir/cluster$n/admin.sock"
}

start_hbone() { # cluster namespace-suffix mode k8s-namespace pod service-account
    local n=$1 part=$2 mode=$3 ns=$4 pod=$5 sa=$6 name=cluster$1-$2-hbone
    printf %s "$(token "$n" "$ns" "$sa" "$pod")" >"$dir/certs/$name.token" # as Kubernetes projects it: no newline
    start $pre-$n-$part "$name" env PROXY_MODE="$mode" PROXY_WORKLOAD_INFO="$ns/$pod/$sa" NETWORK="$(network $n)" \
        CLUSTER_ID=cluster$n POD_NAME="$pod" POD_NAMESPACE="$ns" SERVICE_ACCOUNT="$sa" NODE_NAME=node$n \
        INSTANCE_IP="$(ip -n $pre-$n-$part -4 -o addr show dev eth0 | awk '{sub("/.*","",$4); print $4}')" \
        XDS_ADDRESS=https://istiod.istio-system.svc:15012 CA_ADDRESS=https://istiod.istio-system.svc:15012 \
        XDS_ROOT_CA="$dir/certs/root-cert.pem" CA_ROOT_CA="$dir/certs/root-cert.pem" AUTH_TOKEN="$dir/certs/$name.token" \
        PACKET_MARK=1337 IPV6_ENABLED=false CONTROL_PLANE_FORWARD=istiod.istio-system.svc:15012 \
        "$hbone"
}

network() { if [ $flat = 1 ]; then echo flat-network; else echo "network$1"; fi; }
ready() { ip netns exec "$pre-$1" curl -fsS -m 2 http://127.0.0.1:15021/healthz/ready; }

write_manifests() {
    local n=$1 m=$dir/cluster$1/manifests
    sed -e "s/@NETWORK@/$(network $n)/g" -e "s/@N@/$n/g" "$here/cluster.yaml" >"$m/cluster.yaml"
    sed -e "s/@N@/$n/g" "$here/global-service.yaml" >"$m/global-service.yaml"
    for v in v1 v2; do
        sed -e "s/@N@/$n/g" -e "s/@VERSION@/$v/g" -e "s/@ADDRESS@/10.${n}0.0.1${v#v}/g" "$here/echo-pod.yaml" >"$m/echo-$v.yaml"
    done
}

start_cluster() {
    local n=$1
    start_peeringd $n
    wait_for "peeringd of cluster$n" 20 "$peerctl" --contexts-file "$dir/contexts" status --context cluster$n
    start_hbone $n gw gateway istio-eastwest istio-eastwest istio-eastwest
    for v in v1 v2; do
        redirect $pre-$n-$v
        start $pre-$n-$v cluster$n-$v-echo "$echo_server" 5000 $v "cluster$n/echo-$v"
        start_hbone $n $v dedicated demo echo-$v echo
    done
    redirect $pre-$n-client
    start_hbone $n client dedicated demo client client
    for part in gw v1 v2 client; do
        wait_for "hbone in $pre-$n-$part" 30 ready $n-$part
    done
}

own_settings() { # what a later command must be told to mean this demo
    [ -z "${ISTHMUS_DEMO_PREFIX:-}" ] || printf 'ISTHMUS_DEMO_PREFIX=%s ' "$pre"
    [ -z "${ISTHMUS_DEMO_DIR:-}" ] || printf 'ISTHMUS_DEMO_DIR=%s ' "$dir"
}

in_client() { ip netns exec $pre-1-client "$@"; }
call() { in_client curl -sS -m 10 "$url" 2>&1 || true; }
calls() { # count
    local i
    for ((i = 0; i < $1; i++)); do call; done | sort | uniq -c | sed 's/^ */   /'
}
sees() { # how many endpoints cluster1 must see
    [ "$("$peerctl" --contexts-file "$dir/contexts" --context cluster1 get workloadentries 2>/dev/null | grep -c "cluster2.demo.*True")" -ge "$1" ]
}
answers_from() { call | grep -q "$1"; }
all_answers_from() { # each worker of the client's hbone remembers failures for itself: ask often enough to meet them all
    local i
    for ((i = 0; i < 20; i++)); do answers_from "$1" || return 1; done
}

# --- the story -------------------------------------------------------------------------------------------------
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
[ -z "$(all_namespaces)" ] || echo "demo: ending the one that was left running"
cleanup
mkdir -p "$dir"/{cmd,log,pid,certs,cluster1/manifests,cluster1/state,cluster2/manifests,cluster2/state}
chmod 700 "$dir"
url=http://global-service.demo.mesh.internal:5000/hello
ctl() { "$peerctl" --contexts-file "$dir/contexts" "$@"; }

step=1
say "$step. Two clusters in network namespaces$([ $flat = 1 ] && echo ', one flat network' || echo ', two networks')"
make_network
printf '[cluster%s]\nmanifests = %s\nadmin = unix:%s\n' 1 "$dir/cluster1/manifests" "$dir/cluster1/admin.sock" \
    2 "$dir/cluster2/manifests" "$dir/cluster2/admin.sock" >"$dir/contexts"
"$peerctl" certs root --dir "$dir/certs"
for n in 1 2; do
    "$peerctl" certs cacerts cluster$n --dir "$dir/certs"
    "$peerctl" certs issuer --dir "$dir/certs/issuer$n" >/dev/null
    write_manifests $n
done
for n in 1 2; do start_cluster $n; done
echo "   running in each: peeringd, an east-west hbone, two echo pods and a client pod with an hbone each"

say "$((step += 1)). Expose and link"
for n in 1 2; do
    ctl multicluster expose --context cluster$n --namespace istio-eastwest --address 172.18.0.1$n
done
ctl multicluster link --namespace istio-eastwest --contexts=cluster1,cluster2

say "$((step += 1)). Before global-service is global: $url"
call | sed 's/^/   /'

say "$((step += 1)). Label global-service solo.io/service-scope=global in both clusters and call it from cluster1's client"
for n in 1 2; do
    sed -i 's/^  labels: {app: echo}$/  labels: {app: echo, solo.io\/service-scope: global}/' "$dir/cluster$n/manifests/global-service.yaml"
done
wait_for "cluster2's endpoints in cluster1" 30 sees 1
wait_for "an answer" 20 answers_from Hello
if [ $flat = 1 ]; then
    echo "   one network: all four pods are equal, so about half of the answers come from each cluster"
    for ((i = 0; i < 40; i++)); do call; done >"$dir/answers"
    sed 's/.*instance: \(cluster.\).*/from \1/' "$dir/answers" | sort | uniq -c | sed 's/^ */   /'
    sed 's/, instance.*//' "$dir/answers" | sort | uniq -c | sed 's/^ */   /'
else
    echo "   PreferNetwork is the default: near endpoints answer while there are any"
    calls 10
    say "$((step += 1)). Take cluster1's echo pods down: calls go on through cluster2, end to end encrypted through its gateway"
    for v in v1 v2; do
        rm "$dir/cluster1/manifests/echo-$v.yaml"
        kill "$(cat "$dir/pid/cluster1-$v-echo")" "$(cat "$dir/pid/cluster1-$v-hbone")" 2>/dev/null || true
    done
    wait_for "an answer from cluster2" 20 answers_from cluster2
    calls 10
    say "   the line the client's hbone wrote for the last call"
    grep 'connection complete' "$dir/log/cluster1-client-hbone.log" | tail -n1 | tr '\t' ' ' | fold -sw 150 | sed 's/^/   /'
    say "   and back: cluster1's pods return; a client that saw them fail tries them again after 10 s"
    for v in v1 v2; do
        start $pre-1-$v cluster1-$v-echo "$echo_server" 5000 $v "cluster1/echo-$v"
        start_hbone 1 $v dedicated demo echo-$v echo
    done
    for v in v1 v2; do
        wait_for "hbone in $pre-1-$v" 30 ready 1-$v
        sed -e "s/@N@/1/g" -e "s/@VERSION@/$v/g" -e "s/@ADDRESS@/10.10.0.1${v#v}/g" "$here/echo-pod.yaml" >"$dir/cluster1/manifests/echo-$v.yaml"
    done
    wait_for "all answers to be from cluster1" 20 all_answers_from cluster1
    calls 10
fi

say "$((step += 1)). peerctl multicluster check"
ctl multicluster check --contexts=cluster1,cluster2

say "$((step += 1)). peerctl explain demo/client global-service.demo.mesh.internal:5000"
ctl explain demo/client global-service.demo.mesh.internal:5000 --context cluster1

if [ $keep = 1 ]; then
    say "Left running. Look around:"
    cat <<LOOK
   ip netns exec $pre-1-client curl $url
   export PEERCTL_CONTEXTS=$dir/contexts
   $peerctl get services --context cluster1 -A        # and: workloads, peers; proxy-status
   $peerctl explain demo/client global-service.demo.mesh.internal:5000 --context cluster1
   ls $dir/cluster1/manifests                          # edit: it is watched
   tail -f $dir/log/*.log
   ip netns exec $pre-1-client curl -s 127.0.0.1:15000/config_dump | head
   kill \$(cat $dir/pid/cluster2-peeringd); bash $dir/cmd/cluster2-peeringd   # end a program, start it again
   $(own_settings)./run demo --clean                                  # ends it all
LOOK
fi
