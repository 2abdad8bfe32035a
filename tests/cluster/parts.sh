# The parts of Kubernetes: certificates, control plane, nodes, the two add-ons, images. Sourced by `cluster`.
# shellcheck shell=bash

kubectl() { inside control "$BIN/kubectl" --kubeconfig "$STATE/admin.conf" "$@"; }
ctr_on()  { local n=$1; shift; ctr -a "$STATE/node$n/containerd.sock" -n k8s.io "$@"; }

certificates() ( # certificates NODES    those that are missing
  mkdir -p "$PKI"; cd "$PKI"
  [ -f ca.crt ] || openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=cluster-ca 2>/dev/null
  [ -f sa.key ] || openssl genrsa -out sa.key 2048 2>/dev/null
  sign() { # sign NAME SUBJECT [SAN]
    [ -f "$1.crt" ] && return
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
      -extfile <(echo basicConstraints=CA:FALSE; echo "${3:+subjectAltName=$3}") 2>/dev/null      # an extension makes it X.509 v3: rustls takes no v1
  }
  sign apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$CONTROL,IP:10.96.0.1"
  sign admin /O=system:masters/CN=admin
  sign front-proxy /CN=front-proxy-client
  for n in $(seq "$1"); do sign "node$n" "/O=system:nodes/CN=system:node:node$n" "IP:$(node_ip "$n"),DNS:node$n"; done
)

kubeconfig() { # kubeconfig FILE CERTIFICATE SERVER    with everything in it, so that it may be copied elsewhere
  local ca crt key; ca=$(base64 -w0 "$PKI/ca.crt") crt=$(base64 -w0 "$PKI/$2.crt") key=$(base64 -w0 "$PKI/$2.key")
  write "$STATE/$1" <<X
{apiVersion: v1, kind: Config, current-context: $NAME,
 clusters: [{name: $NAME, cluster: {server: "$3", certificate-authority-data: $ca}}],
 users: [{name: $NAME, user: {client-certificate-data: $crt, client-key-data: $key}}],
 contexts: [{name: $NAME, context: {cluster: $NAME, user: $NAME}}]}
X
}

control_plane() {
  cgroup control
  start etcd control control "$BIN/etcd" --data-dir "$STATE/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
  # aggregator routing: the API server reaches webhooks and metrics by endpoint, as it has no kube-proxy beside it
  start kube-apiserver control control "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$CONTROL" --secure-port=6443 \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --service-account-key-file="$PKI/sa.key" --service-account-signing-key-file="$PKI/sa.key" --service-account-issuer=https://kubernetes.default.svc \
    --authorization-mode=Node,RBAC --service-cluster-ip-range=10.96.0.0/16 --service-node-port-range=1024-32767 --allow-privileged=true \
    --kubelet-client-certificate="$PKI/admin.crt" --kubelet-client-key="$PKI/admin.key" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" --enable-aggregator-routing=true
  await 60 kube-apiserver kubectl get --raw /readyz
  # the default client limits (20 and 50 requests/s) would be what a test with thousands of pods measures
  start kube-controller-manager control control "$BIN/kube-controller-manager" --kubeconfig="$STATE/admin.conf" --use-service-account-credentials \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" --cluster-cidr=10.244.0.0/16 --leader-elect=false \
    --kube-api-qps=500 --kube-api-burst=1000
  start kube-scheduler control control "$BIN/kube-scheduler" --kubeconfig="$STATE/admin.conf" --leader-elect=false \
    --kube-api-qps=500 --kube-api-burst=1000
}

node() { # node N
  local n=$1 dir=$STATE/node$1
  mkdir -p "$dir/cni" "$dir/kubelet"
  cgroup "node$n"; mkdir -p "$GROUP/node$n/system"     # a leaf: cgroup v2 allows processes in leaves only
  # restrict_oom_score_adj: a root without CAP_SYS_RESOURCE may not lower a score, and runc then fails
  # netns_mounts_under_state_dir: pods' namespaces are found, and removed, with the rest of the node
  write "$dir/containerd.toml" <<X
version = 2
root = "$dir/containerd"
state = "$dir/containerd-run"
[grpc]
  address = "$dir/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$dir/containerd-run/runc"
X
  write "$dir/cni/10-pods.conflist" <<X
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$n.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$dir/ipam"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
  write "$dir/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
${V1:+failCgroupV1: false}
cgroupDriver: cgroupfs
cgroupRoot: /$NAME/node$n
containerRuntimeEndpoint: unix://$dir/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/node$n.crt
tlsPrivateKeyFile: $PKI/node$n.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: ""
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
podLogsDir: $dir/pod-logs
volumePluginDir: $dir/volume-plugins
X
  write "$dir/kube-proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: node$n
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: $STATE/admin.conf}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 0s}
X
  start "containerd$n" "node$n/system" "node$n" containerd -c "$dir/containerd.toml"
  await 30 "containerd of node $n" ctr_on "$n" version
  import_images "$n" "$PAUSE_IMAGE"
  kubeconfig "node$n.conf" "node$n" "https://$CONTROL:6443"
  start "kubelet$n" "node$n/system" "node$n" "$BIN/kubelet" --config="$dir/kubelet.yaml" --kubeconfig="$STATE/node$n.conf" --root-dir="$dir/kubelet" \
    --hostname-override="node$n" --node-ip="$(node_ip "$n")" --node-labels="topology.kubernetes.io/zone=zone-$n"
  start "kube-proxy$n" "node$n/system" "node$n" "$BIN/kube-proxy" --config="$dir/kube-proxy.yaml"
  start "netpol$n" "node$n/system" "node$n" "$BIN/netpol" "$STATE/admin.conf" "node$n"
}

PAUSE_IMAGE=$BIN/pause.tar      # beside the binaries, as it is as lasting as they are

pause_image() { # the process that holds a pod's namespaces open
  [ ! -f "$PAUSE_IMAGE" ] || return 0
  local dir; dir=$(mktemp -d)
  printf '#include <signal.h>\n#include <unistd.h>\nvoid q(int s){_exit(0);}int main(){signal(15,q);signal(2,q);for(;;)pause();}' |
    cc -Os -static -s -x c -o "$dir/pause" -
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >"$dir/Dockerfile"
  local buildah=(buildah --root "$dir/storage" --runroot "$dir/run" --storage-driver vfs)
  "${buildah[@]}" build --isolation chroot -q -t localhost/pause:1 "$dir" >/dev/null
  "${buildah[@]}" push -q localhost/pause:1 "oci-archive:$dir/pause.tar:localhost/pause:1"
  mv "$dir/pause.tar" "$PAUSE_IMAGE"
  rm -r "$dir"
}

image_in() { # image_in TAR    "NAME DIGEST" of the image in an OCI archive
  local index; index=$(tar -xOf "$1" index.json) || die "$1 is not an OCI archive"
  echo "$(grep -o '"org.opencontainers.image.ref.name":"[^"]*"' <<<"$index" | cut -d'"' -f4) $(grep -o '"digest":"[^"]*"' <<<"$index" | cut -d'"' -f4)"
}

import_images() { # import_images NODE TAR...    those it does not have
  local n=$1 tar present; shift
  present=$(ctr_on "$n" images ls | awk '{print $1, $3}')
  for tar in "$@"; do
    grep -qxF "$(image_in "$tar")" <<<"$present" || ctr_on "$n" images import "$tar" >/dev/null
  done
}

load() { # load TAR...    into all nodes at once
  local dir job jobs=()
  for tar in "$@"; do [ -f "$tar" ] || die "no such archive: $tar"; done
  for dir in "$STATE"/node[0-9]*/cni; do
    [ -d "$dir" ] || die "no cluster"
    dir=${dir%/cni}
    import_images "${dir##*node}" "$@" & jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job"; done
}

addons() { # processes beside the API server, reached through Services without selectors
  start metrics-server control control "$BIN/metrics-server" --secure-port=4443 --cert-dir="$STATE/metrics-server" \
    --kubeconfig="$STATE/admin.conf" --authentication-kubeconfig="$STATE/admin.conf" --authorization-kubeconfig="$STATE/admin.conf" \
    --kubelet-insecure-tls --kubelet-preferred-address-types=InternalIP \
    --scrape-interval="$SCRAPE_INTERVAL" --kubelet-request-timeout=2s
  # there is no outside to ask, and NXDOMAIN now beats a resolver's timeout
  write "$STATE/Corefile" <<X
cluster.local in-addr.arpa {
  errors
  kubernetes {
    kubeconfig $STATE/admin.conf $NAME
  }
}
. {
  template ANY ANY {
    rcode NXDOMAIN
  }
}
X
  start coredns control control "$BIN/dns" -conf "$STATE/Corefile"
  await 30 coredns inside control bash -c '</dev/tcp/127.0.0.1/53'
  kubectl apply --server-side -f - >/dev/null <<X
---
{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}},
 spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: ["$CONTROL"]}],
 ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}],
 metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}}
---
{apiVersion: v1, kind: Service, metadata: {name: metrics-server, namespace: kube-system}, spec: {ports: [{port: 443, targetPort: 4443}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{port: 4443}], endpoints: [{addresses: ["$CONTROL"]}],
 metadata: {name: metrics-server-1, namespace: kube-system, labels: {kubernetes.io/service-name: metrics-server}}}
---
{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1beta1.metrics.k8s.io},
 spec: {group: metrics.k8s.io, version: v1beta1, groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true,
        service: {name: metrics-server, namespace: kube-system}}}
X
}
