# shellcheck shell=bash disable=SC2034
# tests/bench/lib.sh   A control plane on loopback for the benches: sourced by them, with `port` set. Gives `bin`, a directory `dir` to
# work in that goes at the end, and what follows.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${COXSWAIN_BIN:-${CARGO_TARGET_DIR:-$root/target}/release}
dir=$(mktemp -d)
declare -A pid
finish() {
    for p in "${pid[@]}"; do kill "$p" 2>/dev/null || true; done
    wait 2>/dev/null || true
    if [ -n "${KEEP_LOGS:-}" ]; then cp "$dir"/*.log "$KEEP_LOGS"; fi
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"

certificate() { # name subject
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    printf 'subjectAltName=DNS:localhost,DNS:kubernetes,IP:127.0.0.1,IP:10.96.0.1\nextendedKeyUsage=clientAuth,serverAuth\n' >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out "$1.crt" -extfile "$1.ext" 2>/dev/null
}
client() { # name subject: a certificate and a kubeconfig
    certificate "$@"
    cat >"$1.conf" <<EOF
{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
 "clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:$port","certificate-authority":"$dir/ca.crt"}}],
 "users":[{"name":"u","user":{"client-certificate":"$dir/$1.crt","client-key":"$dir/$1.key"}}]}
EOF
}
start() { # name command...
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 &
    pid[$name]=$!
}
until_true() { # seconds command...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "$(basename "$0"): gave up waiting for: $*" >&2; exit 1; }
        sleep 0.2
    done
}
resident() { awk '/^VmRSS/ {printf "%d", $2 / 1024}' "/proc/${pid[$1]}/status"; } # MiB of a process
spent() { awk '{n = split($0, a, ") "); split(a[n], f, " "); printf "%d", (f[12] + f[13]) * 10000}' "/proc/${pid[$1]}/stat"; } # its CPU, us
k() { kubectl --kubeconfig "$dir/admin.conf" "$@"; }

# Starts etcd (with these further arguments) and the API server, and returns when it is ready.
control_plane() {
    local etcd=http://127.0.0.1:$((port + 36)) peers=http://127.0.0.1:$((port + 37))
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca 2>/dev/null
    certificate server /CN=kube-apiserver
    client admin /O=system:masters/CN=admin
    openssl genrsa -out sa.key 2048 2>/dev/null
    openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
    start etcd etcd --data-dir "$dir/etcd" --listen-client-urls "$etcd" --advertise-client-urls "$etcd" --listen-peer-urls "$peers" \
        --initial-advertise-peer-urls "$peers" --initial-cluster "default=$peers" --quota-backend-bytes 8589934592 --log-level error "$@"
    start apiserver "$bin/kube-apiserver" --etcd-servers="$etcd" --secure-port="$port" --bind-address=127.0.0.1 --advertise-address=127.0.0.1 \
        --tls-cert-file=server.crt --tls-private-key-file=server.key --client-ca-file=ca.crt --service-account-key-file=sa.pub \
        --service-account-signing-key-file=sa.key --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC
    until_true 30 k get --raw /readyz
}
