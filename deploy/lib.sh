# Shared by deploy/up, deploy/down and tests/run; sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/release

die() { echo "${0##*/}: $*" >&2; exit 1; }
say() { echo "==> $*"; }

need_root() { [ "$(id -u)" = 0 ] || die "needs root: it installs packages and makes namespaces"; }

# Debian packages: the cluster's parts, and what the build needs.
packages="procps openssl etcd-server etcd-client containerd runc containernetworking-plugins nftables conntrack iproute2 iptables
  busybox-static protobuf-compiler libprotobuf-dev gcc libc6-dev make pkg-config util-linux ca-certificates curl"

install_packages() {
    local missing=() p
    for p in $packages; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
    done
    command -v kubectl >/dev/null || missing+=(kubernetes-client)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # Services must not start by themselves: the lab starts its own.
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

need_rust() {
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "no Rust toolchain: install one of at least 1.90 (rustup.rs) and run this again"
}

# One build for all that runs. With --tests, for tests/run, those are built by the same command: they ask for more of some libraries,
# and a command of their own would build these, and all that stands on them, a second time.
build() {
    say "building (release; the first build takes minutes)"
    (cd "$root" && cargo build --release --locked --workspace --bins "$@")
    settle
}

# etcd waits for the disk at every write; what a build left to be written must not stand before it.
settle() { sync; }

build_images() { "$root/deploy/images/build" "$bin" "$1"; }

daemons="kube-apiserver kube-scheduler kube-controller-manager cloud-controller-manager kubelet kube-proxy coxswain-network coxswain-dns coxswain-balancer metrics-server coxswain-local-path"
