# midhop: build, run, test. `make` alone prints this help.
#
# Everything a machine lacks is installed by the targets that need it (Debian packages, through apt-get, as root).

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO      ?= go
CLANG   ?= clang-19
STRIP   ?= llvm-strip-19
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

export CGO_ENABLED ?= 0

# need COMMANDS,PACKAGES: installs the packages where one of the commands is missing.
define need
	@missing=; for c in $(1); do PATH="$$PATH:/usr/sbin:/sbin" command -v $$c >/dev/null || missing="$$missing $$c"; done; \
	if [[ -n "$$missing" ]]; then \
	  echo "installing $(2) (missing:$$missing)" >&2; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; \
	fi
endef

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/midhop
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/midhop ./cmd/midhop

.PHONY: run
run: build ## show the lab's incident live: a node dies under 200 connections (root)
	@bin/midhop lab node-gone

.PHONY: deps
deps:
	$(call need,nft conntrack ip ping iptables-nft-restore,nftables conntrack iproute2 iputils-ping iptables)

# What go test says, with one line at the end: passed, failed, skipped and why. See .ci/tests.
SUMMARY = mkdir -p bin && $(GO) test -C .ci/tests . && $(GO) build -C .ci/tests -o $(CURDIR)/bin/tests .

.PHONY: test
test: deps build ## levels 1 to 6: unit, golden, script, kernel and lab tests (root)
	$(GO) vet ./...
	@$(SUMMARY)
	$(GO) test -json -timeout 14m ./... | bin/tests

.PHONY: test-fast
test-fast: ## levels 1 to 5: no root, under a minute
	@$(SUMMARY)
	$(GO) test -json -timeout 8m ./... | bin/tests

# What runs in every guest: packages with -pkg, static programs with -bin 'PATH ARGS'. VMFLAGS: -run, -deadline, -log; see .ci/vm.
KERNELS ?= 5.10 6.1 6.12 6.18 newest arm64 arm64-newest
VMJOBS  ?= -pkg ./bpf -pkg ./tracer/source/kernel -pkg ./tracer/source/sockets -pkg ./tracer/source/conntrack \
           -bin 'bin/midhop lab node-gone --connections 50 -o jsonl'
VMFLAGS ?=
# By hand, until an emulated guest that is slow cannot make it fail: VMJOBS="-pkg './cmd/midhop TestClockIsSet'"

.PHONY: bin/vm
bin/vm: build
	GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/midhop-arm64 ./cmd/midhop
	$(GO) test -C .ci/vm .
	$(GO) build -C .ci/vm -o $(CURDIR)/bin/vm .

.PHONY: test-vm
test-vm: bin/vm ## level 7: the kernel tests in QEMU guests of seven kernels, two of them arm64; KERNELS=6.12 for one of them
	bin/vm run -kernel "$(KERNELS)" $(VMJOBS) $(VMFLAGS)

.PHONY: test-rungs
test-rungs: bin/vm ## short form: guests load every program, see every rung fire and name the lab's dead node; KERNELS=arm64
	bin/vm run -kernel "$(KERNELS)" -pkg './bpf TestPrograms TestRungs' -bin 'bin/midhop lab node-gone --connections 50 -o jsonl' $(VMFLAGS)

.PHONY: test-programs
test-programs: bin/vm ## the table program x kernel: loads, or why not and what serves instead; here and in all guests (root)
	bin/vm run -native -kernel "$(KERNELS)" -pkg './bpf TestPrograms' $(VMFLAGS)

# BENCH: -only EXPRESSION, -fast, -out DIRECTORY; see .ci/bench. Peers that are missing are installed, or named as skipped.
BENCH ?=

.PHONY: bench
bench: build ## everything measured beside its peers in one run, as a table, JSON and a plot in bin/bench: about 15 minutes (root)
	$(GO) test -C .ci/bench .
	$(GO) build -C .ci/bench -o $(CURDIR)/bin/bench-report .
	bin/bench-report $(BENCH)

# The benchmarks of the stream, with figures in CPU time: beside bpftrace too where it is installed, as root.
.PHONY: bench-stream
bench-stream: ## what an exported event costs, 500,000 a second for 10 s, and midhop beside bpftrace (root)
	$(GO) test ./cmd/midhop -run '^$$' -bench '^BenchmarkStream$$' -benchtime 1000000x
	$(GO) test ./cmd/midhop -run '^$$' -bench '^Benchmark(Sustained|BesideBpftrace)$$' -benchtime 1x
	$(GO) test ./tracer/event ./tracer/export/jsonl -run '^$$' -bench '^Benchmark(Append|Write)$$'

.PHONY: bench-kube
bench-kube: ## what a cluster of 5,000 nodes and 150,000 pods costs in memory, beside client-go's informers
	$(GO) test ./tracer/source/kube -run '^$$' -bench '^BenchmarkMemory$$' -benchtime 1x
	$(GO) test ./tracer/source/kube -run '^$$' -bench '^BenchmarkMemoryInformers$$' -benchtime 1x

# The real control plane is a module of its own. Building it takes 10 to 15 CPU minutes when nothing of it is cached, at the
# lowest priority. What was built is kept outside the clone, by what it was built from, so that a fresh clone finds it again.
# GOFLAGS lets its go.sum follow midhop's own.
KUBECLUSTER := tracer/lab/kubecluster
KUBESOURCES := $(KUBECLUSTER)/go.mod $(wildcard $(KUBECLUSTER)/cmd/*/*.go)
KUBECACHE    = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/midhop/kubecluster/$(shell { $(GO) version; cat $(KUBESOURCES); } | sha256sum | cut -c1-16)
bin/kubecluster/built: $(KUBESOURCES)
	@cache='$(KUBECACHE)'; mkdir -p bin/kubecluster; \
	if [[ ! -f $$cache/built ]]; then \
	  mkdir -p $$cache; \
	  GOFLAGS=-mod=mod nice -n 15 $(GO) build -C $(KUBECLUSTER) -trimpath -ldflags '-s -w' -o $$cache/ ./cmd/...; \
	  touch $$cache/built; \
	fi; \
	ln -sf $$cache/* bin/kubecluster/
	@touch bin/kubecluster/built

# Succeeds where make test-e2e has nothing to build: for continuous integration, whose time is limited.
.PHONY: kubecluster-cached
kubecluster-cached:
	@test -f '$(KUBECACHE)/built'

.PHONY: kubecluster
kubecluster: bin/kubecluster/built ## build kube-apiserver, kube-proxy, kube-controller-manager and kubectl for make test-e2e

E2E ?= .
.PHONY: test-e2e
test-e2e: deps build kubecluster ## level 8: the lab under a real control plane with real kube-proxies, in both of their modes (root)
	$(call need,iptables nsenter,iptables util-linux)
	GOFLAGS=-mod=mod $(GO) test -C $(KUBECLUSTER) -trimpath -count=1 -timeout 25m -v -run '$(E2E)' .

# MATRIX: -row EXPRESSION, -short (a third of the runs), -jobs, -seed, -keep; see .ci/matrix.
MATRIX ?=

.PHONY: lab-matrix
lab-matrix: deps build ## every lab scenario in every form, with verdicts and times: about 35 minutes; MATRIX=-short: about 9 (root)
	$(GO) test -C .ci/matrix .
	$(GO) build -C .ci/matrix -o $(CURDIR)/bin/matrix .
	bin/matrix $(MATRIX)

SOAK ?= 5m

.PHONY: soak
soak: deps build ## good days only: churn, vanishing clients, drains, restarts, for SOAK (5m); nothing may be found (root)
	$(GO) build -C .ci/matrix -o $(CURDIR)/bin/matrix .
	bin/matrix -soak $(SOAK)

# The matrix of the likelihood engine: how often the right component is named, beside 007's votes, and what an epoch costs.
# BLAME=full takes hours; BLAME='ci -matrix.fault dead -matrix.cells' looks closely at some rows.
BLAME ?= ci

.PHONY: bench-blame
bench-blame: ## how often the likelihood engine names the right one, and what it costs; fails under its bounds
	$(GO) test ./tracer/diagnose -run '^TestMatrix(Cost)?$$' -v -count 1 -timeout 24h -matrix $(BLAME)

# Worlds: SEEDS of them from SEED on, each with a primitive FAULT (of chance if empty). HOLD=today fails on the invariants that
# hold in every world so far, HOLD=all on any. SHOW=true prints every world.
SEEDS ?= 1000
FAULT ?=
HOLD  ?= all
SHOW  ?= false

.PHONY: worlds
worlds: ## SEEDS (1000) simulated incidents from SEED (1) on through the Engine, against the truth: FAULT=power for one kind; failures in bin/worlds
	$(GO) test ./tracer/trial -count 1 -timeout 60m -v -run '^TestWorlds$$' -worlds.seeds $(SEEDS) -worlds.seed $(or $(SEED),1) -worlds.fault '$(FAULT)' -worlds.hold $(HOLD) -worlds.show=$(SHOW) -worlds.out $(CURDIR)/bin/worlds

MUTANTS ?= 1000

.PHONY: worlds-mutants
worlds-mutants: ## break the judge in ten ways: each must be found in MUTANTS (1000) worlds; about 10 minutes
	$(GO) test ./tracer/trial -count 1 -timeout 60m -v -run '^TestMutants$$' -worlds.mutants $(MUTANTS)

.PHONY: test-tmux
test-tmux: deps build ## the built program under tmux, by keys alone, and what its screen costs at rest (root)
	$(call need,tmux,tmux)
	$(GO) test -tags tmux ./cmd/midhop -count 1 -timeout 5m -run '^(TestLabInATerminal|TestFirstPaint|TestIdleCPU|TestTerminalAfterACrash|TestProbeInATerminal)$$'

# Tools for lint are pinned in .ci/tools. Closing what was only read, or has failed already, is not errcheck's business.
.PHONY: lint
lint: ## gofmt, vet on every system, staticcheck, errcheck, and govulncheck where its database can be reached
	@out=$$(gofmt -l $$(git ls-files '*.go')); [[ -z "$$out" ]] || { echo "gofmt: $$out" >&2; exit 1; }
	@mkdir -p bin
	$(GO) build -C .ci/tools -o $(CURDIR)/bin/ honnef.co/go/tools/cmd/staticcheck github.com/kisielk/errcheck golang.org/x/vuln/cmd/govulncheck
	$(GO) vet ./...
	$(GO) vet -tags faults ./cmd/midhop ./tracer/source/conntrack
	GOOS=darwin $(GO) vet ./cmd/midhop
	bin/staticcheck -tags faults,tmux ./...
	@out=$$(bin/errcheck -ignoretests -exclude .ci/tools/errcheck.txt ./... | grep -vE '\.Close(Now)?\(\)' || true); [[ -z "$$out" ]] || { echo "errcheck:"$$'\n'"$$out" >&2; exit 1; }
	@out=$$(timeout 300 bin/govulncheck ./... 2>&1) && echo "govulncheck: nothing known" || { \
	  if grep -qE 'vuln\.go\.dev|dial tcp|no such host|fetching vulnerabilities|Forbidden|proxyconnect|context deadline|connection refused' <<<"$$out"; then \
	    echo "govulncheck: NOT RUN: its database cannot be reached from here"; \
	  else echo "$$out" >&2; exit 1; fi; }

# FAULTS: which tests; MIDHOP_SOAK: how long TestLeaks goes on (45s).
FAULTS ?= ^(TestKilledInTheMiddle|TestMemoryLimit|TestManyNamespaces|TestSYNFlood|TestLeaks|TestMillionEntries)$$

.PHONY: test-faults
test-faults: deps build ## break midhop itself: kill -9, memory limit, 2,000 namespaces, a flood of SYNs, a million entries, leaks (root)
	$(GO) test -tags faults -count 1 -timeout 60m -v -run '$(FAULTS)' ./cmd/midhop ./tracer/source/conntrack

# The race detector needs a C compiler.
.PHONY: test-race
test-race: ## the screens, the Engine and the replay with the race detector
	$(call need,gcc,gcc libc6-dev)
	CGO_ENABLED=1 $(GO) test -race -count 1 -timeout 10m ./ui/... ./tracer/source/stream
	CGO_ENABLED=1 $(GO) test -race -count 1 -timeout 10m ./cmd/midhop -run '^(TestEveryKeyOfTheHelp|TestPictures)$$'

.PHONY: test-race-all
test-race-all: ## everything with the race detector: 10 to 20 minutes (root)
	$(call need,gcc,gcc libc6-dev)
	CGO_ENABLED=1 $(GO) test -race -count 1 -timeout 40m ./...

# The benchmarks of the kernel half. Figures in processor time: others may use the machine too.
.PHONY: bench-kernel
bench-kernel: ## a retransmission, 50,000 sockets beside ss, 100,000 conntrack entries beside conntrack -L, the start (root)
	$(GO) test ./bpf -run '^$$' -bench '^Benchmark(Start|Census)$$' -benchtime 5x
	$(GO) test ./bpf -run '^$$' -bench '^BenchmarkRetransmit$$' -benchtime 1x
	$(GO) test ./tracer/source/conntrack -run '^$$' -bench '^BenchmarkDump$$' -benchtime 5x

FUZZTIME ?= 10s
FUZZERS  ?= bpf:FuzzDecode tracer/source/kernel:FuzzConvert tracer/source/sockets:FuzzDiag tracer/source/conntrack:FuzzParse tracer/source/stream:FuzzSource \
            tracer/source/nodefile:FuzzRead tracer/event:FuzzDecode tracer/event:FuzzAppend tracer/filter:FuzzParse tracer/report:FuzzClean tracer/fleet:FuzzIntake \
            tracer/source/kubenode:FuzzAddresses tracer/relief:FuzzStateOf

.PHONY: fuzz
fuzz: ## fuzz everything that reads what others wrote, FUZZTIME (10s) each
	@for f in $(FUZZERS); do \
	  echo "== $$f"; \
	  $(GO) test ./$${f%%:*} -run '^$$' -fuzz "^$${f##*:}$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

.PHONY: generate
generate: ## rebuild every generated file: BPF objects and Go twins, schema, event pages, commands, the pictures of the README
	$(call need,$(CLANG) $(STRIP) clang-format-19 zstd,clang-19 llvm-19 clang-format-19 libbpf-dev zstd)
	@test -f /usr/include/bpf/bpf_core_read.h || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libbpf-dev >/dev/null; }
	CLANG=$(CLANG) STRIP=$(STRIP) $(GO) generate ./...

.PHONY: generate-check
generate-check: generate ## fail where a committed generated file is not what its source gives
	@git diff --exit-code --stat || { echo "generated files differ from their sources: run make generate and commit" >&2; exit 1; }

.PHONY: cross
cross: ## prove that the parts that are not Linux-only build for macOS and Windows
	GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/midhop
	GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/midhop
	GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/midhop

# A release: an archive of kubectl-midhop for every platform, and the manifest by which krew installs it.
.PHONY: release
release: ## archives of kubectl-midhop for five platforms and krew's manifest, in bin/release
	@rm -rf bin/release && mkdir -p bin/release
	for p in darwin/amd64 darwin/arm64 linux/amd64 linux/arm64 windows/amd64; do \
	  os=$${p%/*} arch=$${p#*/} dir=bin/release/$${p/\//_} exe=; [[ $$os == windows ]] && exe=.exe; mkdir -p $$dir; cp LICENSE $$dir; \
	  GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $$dir/kubectl-midhop$$exe ./cmd/midhop; \
	  tar --sort=name --owner=0 --group=0 --mtime=@0 -C $$dir -cf - . | gzip -9n >bin/release/kubectl-midhop_$(VERSION)_$${os}_$$arch.tar.gz; rm -r $$dir; \
	done
	$(GO) run -ldflags '$(LDFLAGS)' ./cmd/midhop deploy --krew bin/release >bin/release/krew.yaml

.PHONY: test-chart
test-chart: ## lint and render the chart with helm itself, and compare with midhop deploy; builds helm
	@mkdir -p bin
	$(GO) build -C .ci/tools -o $(CURDIR)/bin/helm helm.sh/helm/v3/cmd/helm
	HELM=$(CURDIR)/bin/helm $(GO) test -count=1 ./cmd/midhop/deploy

.PHONY: test-alerts
test-alerts: ## let promtool parse every query of dashboard and alert rules, and run the rules' tests
	$(call need,promtool,prometheus)
	PROMTOOL=promtool $(GO) test -count=1 ./cmd/midhop/deploy

# The whole of it, for a quiet machine: AGENTS=5000 SCALETIME=120s. SERVERS=3 keeps the streams in a cluster of three nats-servers,
# of which the one that leads is killed in the middle.
AGENTS    ?= 500
SCALETIME ?= 60s
SERVERS   ?= 0

.PHONY: bench-fleet
bench-fleet: ## a real hub under AGENTS (500) simulated agents for SCALETIME (60s), one node dies: CPU, memory, disk, time to name (root)
	MIDHOP_SCALE_SERVERS=$(SERVERS) MIDHOP_SCALE_AGENTS=$(AGENTS) MIDHOP_SCALE_TIME=$(SCALETIME) $(GO) test ./cmd/midhop -count=1 -run '^TestFleetScale$$' -v

# In namespaces of its own: the agent sees no sockets but the benchmark's.
.PHONY: bench-agent
bench-agent: deps ## what an agent costs and weighs beside 100,000 healthy sockets, publishing to a hub (root)
	unshare --pid --net --fork --mount-proc sh -c "ip link set lo up; exec $(GO) test ./cmd/midhop -run '^$$' -bench '^BenchmarkAgentWeight$$' -benchtime 1x -timeout 20m"

# Where the kernel offers fentry, beside the same kernel with the census in its place: the ratio counts, for everything takes
# SLOW times longer on emulated processors.
SLOW ?= 15
.PHONY: bench-agent-vm
bench-agent-vm: build ## the same in a guest of kernel 6.12, with 20,000 sockets: fentry beside the census, about 12 minutes
	CGO_ENABLED=0 $(GO) test -c -ldflags='-s -w' -o bin/midhop.test ./cmd/midhop
	$(GO) build -C .ci/vm -o $(CURDIR)/bin/vm .
	@mkdir -p bin/vm-agent
	bin/vm run -kernel 6.12 -deadline 20m -log bin/vm-agent -bin 'bin/midhop.test -test.run ^$$ -test.bench ^BenchmarkAgentWeight$$ -test.benchtime 1x -test.timeout 0 -sockets 20000 -slow $(SLOW)'
	@cat bin/vm-agent/*.out

DEATHS ?= 20

.PHONY: bench-fleet-name
bench-fleet-name: deps ## how soon a hub names a node that died, over DEATHS (20) labs with other seeds (root)
	MIDHOP_FLEET_DEATHS=$(DEATHS) $(GO) test ./cmd/midhop -count=1 -timeout 30m -run '^TestFleetTimeToName$$' -v

SCENARIOS ?= node-rebooted,front-gone,two-nodes,client-gone,reader-hung,pod-gone,service-down,mobile-clients,drain,rolling,healthy,address-reused,returns-elsewhere,backend-node,egress-node,one-way,uplink-returns

SEED ?=
.PHONY: test-fleet
test-fleet: deps ## SCENARIOS of the lab, of another SEED, through agents and a hub: the right verdict, no healthy node named, nothing lost (root)
	MIDHOP_FLEET_SCENARIOS=$(SCENARIOS) MIDHOP_FLEET_SEED=$(SEED) $(GO) test ./cmd/midhop -count=1 -timeout 30m -run '^TestFleetScenarios$$' -v

.PHONY: test-image
test-image: ## build the Dockerfile with buildah for amd64 and arm64, from bases made here, and run what comes out (root)
	$(call need,buildah debootstrap,buildah debootstrap)
	nice .ci/image

.PHONY: clean
clean: ## remove what make built
	rm -rf bin
