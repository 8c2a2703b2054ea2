# The same commands for people and for CI. All of them run as an ordinary user and call sudo
# themselves where root is needed; as root they need no sudo.

.NOTPARALLEL:
.PHONY: help setup setup-tests setup-lab setup-vm build demo lab bench check test test-privileged test-lab test-vm test-again \
	ready-test-lab ready-test-vm ready-test-again case install fmt fmt-check clippy deny clean
.DEFAULT_GOAL := help

CARGO ?= cargo
AS_ROOT := $$([ "$$(id -u)" = 0 ] || echo sudo -E)
# All tiers, so that they share one build. The feature `fault` lets tests make each step fail; the
# programs of `build`, which tests start and install, are made without it.
TESTS := --locked --workspace --all-features

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the Debian packages that the other targets need and that are missing
	tools/setup.sh

# Of tests on this host, and in lab systems.
FOR_TESTS := docker-registry procps skopeo

setup-tests: ## The same, and those that tests need
	tools/setup.sh $(FOR_TESTS)

FOR_LABS := $(FOR_TESTS) mmdebstrap systemd-container

setup-lab: ## The same, and those that lab systems need
	tools/setup.sh $(FOR_LABS)

setup-vm: ## The same, and those that emulated machines need
	tools/setup.sh $(FOR_LABS) qemu-system-x86 e2fsprogs

# Where `build` puts what is shipped. In Cargo's own place a build of tests, with the feature `fault`,
# puts programs of the same names.
TARGET := $${CARGO_TARGET_DIR:-$(CURDIR)/target}
BUILT := $(TARGET)/built

build: ## Build tared, tare-spawn, tare-names, tare-worker and tarectl
	$(CARGO) build --locked -p tare-service -p tare-spawn -p tare-names -p tare-worker -p tarectl
	cd "$(TARGET)/debug" && flock . install -C -D -t ../built tared tare-spawn tare-names tare-worker tarectl

demo: setup build ## Run a container end to end on a private bus, and show every call
	tools/demo.sh

lab: setup-lab build ## A shell in a throw-away Debian 13 under systemd, with tared installed
	export TARE_BIN_DIR="$(BUILT)"; $(AS_ROOT) tests/lab/lab shell

# QUICK=1: only to see that it works. ROWS=a,b: only those. AGAINST=file: compare with that report.
# STRICT=1: fail where what must be is missed, or a ratio is more than 20 % from that report's.
BENCH := $(if $(QUICK),--quick) $(if $(ROWS),--rows=$(ROWS)) $(if $(AGAINST),--against=$(AGAINST)) \
	$(if $(STRICT),--strict)
bench: setup-lab ## Figures: of pure code, and in a lab system beside podman and crun; QUICK=1, ROWS=list-1000
	$(if $(ROWS),,$(if $(QUICK),DIVAN_MAX_TIME=0.1) $(CARGO) bench --locked --workspace --bench '*')
	$(CARGO) build --locked --release -p tare-service -p tare-spawn -p tare-names -p tare-worker -p tarectl \
		-p system-tests
	@mkdir -p "$(TARGET)/bench"
	$(AS_ROOT) "$${CARGO_TARGET_DIR:-target}/release/tare-bench" $(BENCH)

check: setup ## All that a change has to pass; ACCEPT='test-vm' if that cannot run here
	tools/check.sh fmt-check clippy build test -- 'test-privileged test-vm' 'test-lab test-again'

test: ## Tests that run anywhere, as an ordinary user
	tools/cargo-test.sh here $(TESTS) -- --skip privileged_ --skip lab_ --skip vm_

test-privileged: setup-tests build ## Tests named privileged_*: as root, in namespaces of their own
	TARE_BRIDGE_NF=1 tools/cargo-test.sh root $(TESTS) --tests -- privileged_ --skip of_lab:: --skip of_vm::

test-lab: setup-lab build ## Tests named lab_*, in a Debian 13 under systemd
	failed=0; \
	tools/cargo-test.sh root $(TESTS) --test labs -- of_lab:: || failed=1; \
	TARE_BRIDGE_NF=1 tools/cargo-test.sh lab $(TESTS) --test lab || failed=1; \
	exit $$failed

# Most hosts have one value of `bridge-nf-call-iptables` or the other: all tests of networks are run with
# both, since test-privileged and test-lab have the other one. A lab system counts nothing that could be
# limited, not even huge pages; machines do. The demo is of a source tree, which it does not have either.
test-again: setup-lab build ## Privileged tests once more, and those of networks, in a Debian 13 under systemd
	failed=0; \
	TARE_BRIDGE_NF=0 tools/cargo-test.sh lab $(TESTS) --exclude fault-tests --test lab -- \
		network::lab_ firewalls::lab_ lab_networks_and_ports || failed=1; \
	TARE_BRIDGE_NF=0 tools/cargo-test.sh lab $(TESTS) --exclude fault-tests --test privileged -- \
		--skip limits::privileged_limits --skip demo:: || failed=1; \
	exit $$failed

test-vm: setup-vm build ## Tests named vm_*, in emulated machines with a kernel of their own
	failed=0; \
	tools/cargo-test.sh root $(TESTS) --test labs -- of_vm:: || failed=1; \
	tools/cargo-test.sh vm-apparmor $(TESTS) --test vm -- --skip vm_selinux_ || failed=1; \
	tools/cargo-test.sh vm-selinux $(TESTS) --test vm -- vm_selinux_ || failed=1; \
	exit $$failed

# Whether this host can do it at all, whatever Tare does; check.sh asks where it may be left out.
ready-test-lab ready-test-again: setup-lab
	$(AS_ROOT) tests/lab/lab ready

ready-test-vm: setup-vm
	$(AS_ROOT) tests/lab/vm ready

case: setup-vm build ## The tests whose names contain NAME, of any kind, where they belong
	tools/case.sh "$(NAME)" $(TESTS)

install: ## Install what `make build` made, below DESTDIR and PREFIX
	tools/install.sh "$(BUILT)"

fmt: ## Format the code
	$(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check

# First what is shipped, without features: `fault-tests` would switch some on for all.
clippy: ## Lints, warnings are errors
	$(CARGO) clippy --locked --workspace --exclude fault-tests -- -D warnings
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

deny: ## Licences, sources and duplicates of dependencies; needs cargo-deny
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is not installed: nothing is checked" >&2; exit 1; }
	$(CARGO) deny check licenses bans sources

clean: ## Remove what was built
	$(CARGO) clean
