# What the cluster does to this machine: processes in cgroups, network namespaces, mounts; and how all of it is found
# again and removed. Sourced by `cluster`, which sets NAME, STATE, CGROUPS, V1 and GROUP.
# shellcheck shell=bash

node_ip() { echo "10.240.0.$1"; }
inside()  { local ns=$NAME-$1; shift; nsenter --net="/run/netns/$ns" "$@"; }  # not `ip netns exec`: that hides /sys/fs/cgroup
running() { local pid; pid=$(cat "$STATE/run/$1.pid" 2>/dev/null) && grep -qs "/$NAME/" "/proc/$pid/cgroup"; }

start() { # start NAME CGROUP NAMESPACE COMMAND...    an empty NAMESPACE is the host's; does nothing if NAME runs
  local name=$1 group=$2 ns=$3; shift 3
  if running "$name"; then return; fi
  # shellcheck disable=SC2016  # the inner shell expands it
  setsid bash -c 'echo $$ >"$1/cgroup.procs"; echo $$ >"$2"; shift 2; exec "$@"' - "$GROUP/$group" "$STATE/run/$name.pid" \
    ${ns:+nsenter --net="/run/netns/$NAME-$ns"} "$@" </dev/null >>"$STATE/log/$name.log" 2>&1 &
}

write() { # write FILE    what is on stdin, unless it is there already: kube-proxy ends when its configuration is written
  local content; content=$(cat)
  [ "$content" = "$(cat "$1" 2>/dev/null)" ] || echo "$content" >"$1"
}

await() { # await SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt "$end" ] || die "gave up waiting for $what; see: cluster status, cluster logs"
    sleep .2
  done
}

cgroup() { # cgroup PATH    below ours, in every hierarchy, with every controller usable in it
  local root dir
  for root in "${CGROUPS[@]}"; do for dir in "$root/$NAME" "$root/$NAME/$1"; do
    mkdir -p "$dir"
    if [ -n "$V1" ]; then       # a v1 cpuset is born empty, and admits no process until it is not
      for f in cpuset.cpus cpuset.mems; do [ ! -f "$dir/$f" ] || [ -n "$(cat "$dir/$f")" ] || cat "$dir/../$f" >"$dir/$f"; done
    else
      for c in $(<"$dir/../cgroup.controllers"); do echo "+$c" >"$dir/../cgroup.subtree_control" 2>/dev/null || true; done
    fi
  done; done
}

bridge_filter() { # a Service or a NetworkPolicy must also hold between two pods of one node, whose packets are only bridged
  [ -e /proc/sys/net/bridge ] || modprobe br_netfilter || die "the kernel lacks br_netfilter"
}

attach() { # attach NAMESPACE PORT ADDRESS    make the namespace and plug it into the switch
  inside "$1" true 2>/dev/null || { ip netns del "$NAME-$1" 2>/dev/null || true; ip netns add "$NAME-$1"; }
  inside switch ip link show "$2" >/dev/null 2>&1 || inside switch ip link add "$2" type veth peer name eth0 netns "/run/netns/$NAME-$1"
  inside switch ip link set "$2" master br0 up
  inside "$1" ip link set lo up
  inside "$1" ip addr replace "$3/24" dev eth0
  inside "$1" ip link set eth0 up
  inside "$1" ip route replace default dev eth0        # leads nowhere; kubelet and kube-proxy want one
}

network() { # network NODES
  inside switch true 2>/dev/null || { ip netns del "$NAME-switch" 2>/dev/null || true; ip netns add "$NAME-switch"; }
  inside switch ip link show br0 >/dev/null 2>&1 || inside switch ip link add name br0 type bridge
  inside switch ip link set br0 up
  attach control control "$CONTROL"
  for n in $(seq "$1"); do
    attach "node$n" "n$n" "$(node_ip "$n")"
    inside "node$n" sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
  done
  for ns in control $(seq -f node%g "$1"); do for n in $(seq "$1"); do
    [ "$ns" = "node$n" ] || inside "$ns" ip route replace "10.244.$n.0/24" via "$(node_ip "$n")"
  done; done
}

kill_group() { # kill -9 everything in one of our cgroups and those below it, until nothing is left
  local pids tries=0
  while pids=$(find "$GROUP/$1" -name cgroup.procs -exec cat {} + 2>/dev/null) && [ -n "$pids" ]; do
    [ $((++tries)) -le 100 ] || die "will not die: $pids"
    xargs kill -9 <<<"$pids" 2>/dev/null || true
    sleep .1
  done
}

unmount() { # whatever is mounted at or below a directory, deepest first
  awk -v d="$1" '$2 == d || index($2, d "/") == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l
}

namespaces() { ip netns list | awk -v n="$NAME" '$1 ~ "^" n "-(switch|control|node[0-9]+)$" {print $1}'; }
# runc makes one under unified/ as well
cgroups()    { for dir in "/sys/fs/cgroup/$NAME" "/sys/fs/cgroup/"*"/$NAME"; do [ ! -d "$dir" ] || echo "$dir"; done; }
mounts()     { awk -v d="$STATE/" 'index($2, d) == 1 {print $2}' /proc/mounts; }
sockets() { # sockets NODE...    those of its pods' shims, which are not among the node's own files
  local node file
  for node in "$@"; do for file in "$node"/containerd-run/io.containerd.runtime.v2.task/k8s.io/*/address; do
    [ ! -f "$file" ] || sed 's,^unix://,,;s,$,\n,' "$file"
  done; done
}

strays() { # what shims, kubelets and CNI plugins write at fixed places outside their own directories
  sockets "$STATE"/node*
  find /var/log/containers -lname "$STATE/*" 2>/dev/null || true
  grep -rlsF "$STATE/" /var/lib/cni/results || true
}
