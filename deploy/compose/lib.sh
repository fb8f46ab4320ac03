# Shared by up, down and sh; sourced, not run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../lib.sh"
state=/var/lib/coxswain/compose
cache=/var/cache/coxswain
machines="cp-1 cp-2 cp-3 worker-1 worker-2"
export COXSWAIN_BUNDLES=$state/bundles

# A docker that already runs is used; else one of our own is started, with its own socket, data and network namespace, so
# that its bridges and rules stay off this machine.
if [ -s "$state/dockerd.pid" ] || ! docker info >/dev/null 2>&1; then
    export DOCKER_HOST=unix://$state/docker.sock
    own_engine=yes
else
    own_engine=
fi

compose_packages() {
    local missing=() tool
    for tool in dockerd:docker.io docker-compose:docker-compose mmdebstrap:mmdebstrap; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

alive() { local s; s=$(awk '{print $3}' "/proc/$1/stat" 2>/dev/null) && [ "$s" != Z ]; }

engine_up() {
    [ -n "$own_engine" ] || return 0
    docker info >/dev/null 2>&1 && return 0
    say "starting docker"
    mkdir -p "$state"
    setsid unshare --net --mount "$here/engine" "$state" </dev/null >"$state/dockerd.log" 2>&1 &
    echo $! >"$state/dockerd.pid"
    for _ in $(seq 150); do docker info >/dev/null 2>&1 && return 0; sleep 0.1; done
    tail -n 5 "$state/dockerd.log" >&2
    die "docker did not start"
}

engine_down() {
    local pid
    pid=$(cat "$state/dockerd.pid" 2>/dev/null) || return 0
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 100); do alive "$pid" || break; sleep 0.1; done
    if alive "$pid"; then kill -KILL "$pid"; fi
    rmdir /sys/fs/cgroup/*/docker /sys/fs/cgroup/docker 2>/dev/null || true
}

compose() { docker-compose -p coxswain -f "$here/docker-compose.yml" "$@"; }

machine() { local m=$1; shift; docker exec -i "coxswain_${m}_1" "$@"; }

# Where the machines' addresses can be reached: the engine's own network, if it has one.
inside() {
    if [ -s "$state/dockerd.pid" ]; then nsenter --target "$(cat "$state/dockerd.pid")" --net -- "$@"; else "$@"; fi
}

wait_booted() {
    local m s
    for m in "$@"; do
        for _ in $(seq 300); do
            s=$(machine "$m" systemctl is-system-running 2>/dev/null || true)
            case $s in running|degraded) break ;; esac
            sleep 0.1
        done
        case $s in running|degraded) ;; *) die "$m did not boot: ${s:-no answer}" ;; esac
    done
}
