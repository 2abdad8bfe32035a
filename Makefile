# `make help` lists the verbs. CLUSTER chooses where they act:
#   local     a Kubernetes of our own on this machine, without a container engine (tests/cluster/cluster); needs root
#   kind      one made by kind (tests/cluster/kind)
#   current   whatever kubectl's current context is (tests/cluster/current); needs REGISTRY, which its nodes can pull from
CLUSTER ?= local
NODES ?= 3
NAMESPACE ?= evenkeel-system
E2E_THREADS ?= 4
RUNS ?= 1
LANES ?= 1
ROUNDS ?= 5
COUNT ?= 1000000
DURATION ?= 60

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

cluster = tests/cluster/$(if $(filter local,$(CLUSTER)),cluster,$(CLUSTER))
step := scripts/step
shell_scripts := $(wildcard scripts/* tests/cluster/cluster tests/cluster/kind tests/cluster/current tests/cluster/build .ci/run)
# what every command that talks to the cluster needs to know: KUBECONFIG, the tools, the images
cluster_environment = settings=$$($(cluster) env); eval "$$settings";
environment = $(cluster_environment) . target/images/images.env;
# where `make images` leaves what it compiled
optimised = $${CARGO_TARGET_DIR:-target}/$$(uname -m)-unknown-linux-gnu/$${PROFILE:-fast-release}
# what ships, which is what `make bench` measures
released = $${CARGO_TARGET_DIR:-target}/$$(uname -m)-unknown-linux-gnu/release

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: CLUSTER=local|kind|current ($(CLUSTER))  NODES=$(NODES)  REGISTRY  PROFILE=fast-release|release  ONLY=name-of-a-test"

# ── the two that README names ────────────────────────────────────────────────────────────────────────────────────────

.PHONY: demo
demo: ## from nothing to a running show: cluster, images, charts, examples, a traffic spike, a summary
	@$(MAKE) tools-demo
	@$(MAKE) -j2 cluster-binaries images
	@for verb in cluster-up load; do $(MAKE) $$verb; done
	@$(environment) $(step) "the demo" "$(optimised)/demo"

.PHONY: test
test: ## everything: lint, unit and integration tests, charts, end to end on a cluster
	@$(MAKE) tools-test
	@$(MAKE) -j2 cluster-binaries check
	@$(MAKE) h2spec
	@$(MAKE) chart-check
	@if $(cluster) status >/dev/null 2>&1; then $(MAKE) e2e; else $(MAKE) e2e; $(MAKE) cluster-down; fi

# ── while developing ─────────────────────────────────────────────────────────────────────────────────────────────────

.PHONY: check
check: ## the inner loop: formatting, lints, unit and integration tests; no cluster
	@$(step) "formatting" cargo fmt --all --check
	@$(step) "formatting of the fuzzer" cargo fmt --manifest-path fuzz/Cargo.toml --check
	@$(step) "Go formatting" scripts/gofmt-check tests/cluster
	@$(step) "shell scripts" shellcheck -x $(shell_scripts)
	@$(step) "clippy" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	@$(step) "unit and integration tests" cargo test --quiet --locked --workspace

.PHONY: crds
crds: ## write what is generated from the API's types: crds/, the chart's definitions, docs/reference.md
	@$(step) "generating" cargo run --quiet --locked --package evenkeel-crds --bin crdgen

.PHONY: chart-check
chart-check: cluster-binaries ## lint the Helm chart and render it
	@$(cluster_environment) $(step) "chart" scripts/check-chart

.PHONY: e2e
e2e: ## end to end on a cluster that is started if need be; ONLY=name runs one test
	@for verb in images cluster-up load; do $(MAKE) $$verb; done
	@$(environment) $(step) "chart, judged by the API server" scripts/check-chart --server
	@$(environment) $(step) "end to end" cargo test --locked --package evenkeel-tests --test '*' -- --ignored --test-threads=$(E2E_THREADS) $(ONLY)

.PHONY: faults
faults: ## what clients see while things go away, on the local cluster; RUNS=20 plays each case so often, LANES=2 two at once where they can be, ONLY='names' some of them, BRIEF=1 with shorter outages
	@for verb in images cluster-up load; do $(MAKE) $$verb; done
	@$(environment) $(step) "faults" "$(optimised)/faults" --runs $(RUNS) --lanes $(LANES) $(if $(BRIEF),--brief) $(ONLY)

.PHONY: bench
bench: tools-bench ## what the proxy costs beside others, how fast an event reaches it, what a route costs; ONLY=row, ROUNDS=5
	@$(step) "compiling proxies, as they ship" env PROFILE=release scripts/cargo-static build --quiet --package evenkeel-proxy --package evenkeel-bench --bins
	@ulimit -n "$$(ulimit -Hn)"; $(step) "side by side" "$(released)/bench" --rounds $(ROUNDS) \
	  --evenkeel "$(released)/evenkeel-proxy" --pingora "$(released)/bare-pingora" \
	  $$([ ! -x target/traefik ] || echo --traefik target/traefik) $(ONLY)
	@$(if $(ONLY),,$(step) "from a pod's event to the last of 10 proxies, 1,000 endpoints" scripts/cargo-static run --quiet --package evenkeel-operator --example push_latency)
	@$(if $(ONLY),,$(step) "routing and picking" scripts/cargo-static bench --quiet --package evenkeel-proxy --bench core)

.PHONY: bench-traefik
bench-traefik: ## compile Traefik, so that `make bench` has it beside the others (minutes)
	@$(step) "Traefik" go build -C tests/bench/traefik -o ../../../target/traefik github.com/traefik/traefik/v3/cmd/traefik

.PHONY: h2spec
h2spec: ## what the specification of HTTP/2 demands of a server
	@$(step) "compiling h2spec" go build -C tests/h2spec -o ../../target/h2spec github.com/summerwind/h2spec/cmd/h2spec
	@EVENKEEL_H2SPEC="$$PWD/target/h2spec" $(step) "h2spec" cargo test --quiet --locked --package evenkeel-proxy --test integration -- --ignored h2::spec

.PHONY: bodies
bodies: ## a million requests whose bodies are compared byte for byte, with resets on both sides, and the proxy's memory; COUNT=100000
	@EVENKEEL_BODIES=$(COUNT) $(step) "$(COUNT) bodies" scripts/cargo-static test --quiet --package evenkeel-proxy --test integration -- --nocapture bodies_arrive

.PHONY: fuzz
fuzz: ## throw bytes at the parsers, DURATION=60 seconds at each; ONLY=requests
	@scripts/install-tools build fuzz
	@$(step) "fuzzing" scripts/fuzz $(DURATION) $(ONLY)

.PHONY: audit
audit: ## known vulnerabilities, licences and duplicates among the dependencies (compiles cargo-deny the first time: minutes)
	@command -v cargo-deny >/dev/null || $(step) "installing cargo-deny" cargo install --locked --quiet cargo-deny
	@$(step) "licences, bans and sources of the dependencies" cargo deny --locked check licenses bans sources
	@$(step) "known vulnerabilities (from RustSec's database on GitHub)" cargo deny --locked check advisories

.PHONY: images
images: ## the container images, as archives in target/images
	@$(step) "images" scripts/images

.PHONY: load
load: ## hand the images to the cluster (with CLUSTER=current: push them to REGISTRY)
	@$(step) "loading images" $(cluster) load target/images/*.tar

# ── a cluster, and Evenkeel on it ────────────────────────────────────────────────────────────────────────────────────

.PHONY: cluster-up
cluster-up: tools-cluster ## a cluster of NODES nodes; prints what to put into your shell
	@$(step) "cluster ($(CLUSTER))" $(cluster) up $(NODES)

.PHONY: cluster-down
cluster-down: ## remove the cluster and every trace of it
	@$(step) "removing the cluster" $(cluster) down
	@$(cluster) leftovers

.PHONY: cluster-binaries
cluster-binaries:
	@$(if $(filter local,$(CLUSTER)),$(step) "Kubernetes and Helm" nice -n 10 tests/cluster/build)

# the current context unless CLUSTER is given
.PHONY: install uninstall
install uninstall: CLUSTER := $(if $(filter file,$(origin CLUSTER)),current,$(CLUSTER))
install: ## put Evenkeel on the current context's cluster (or on CLUSTER's), with the images of `make images`
	@$(environment) $(step) "installing" scripts/install-chart "$(NAMESPACE)"
uninstall: ## remove Evenkeel from there; the custom resources stay
	@$(cluster_environment) $(step) "uninstalling" "$$EVENKEEL_HELM" uninstall evenkeel --namespace "$(NAMESPACE)" --wait

.PHONY: clean
clean: ## remove what was compiled here (not the cluster's binaries, which all clones share, in ~/.cache/evenkeel)
	@rm -rf target/images
	@cargo clean

.PHONY: tools-cluster tools-demo tools-test tools-bench
tools-cluster:
	@$(if $(filter local,$(CLUSTER)),scripts/install-tools cluster)
tools-demo: tools-cluster
	@scripts/install-tools build images
tools-test: tools-demo
	@scripts/install-tools lint
tools-bench:
	@scripts/install-tools build bench
