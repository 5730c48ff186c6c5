# Everything that a person or CI runs. `make help` lists it.
TARGET ?= x86_64-unknown-linux-musl
# enclave-app loads PKCS#11 modules, which need glibc: it is for this target in the place of musl.
GNU_TARGET = $(subst musl,gnu,$(TARGET))
BIN = target/$(TARGET)/release
GNU_BIN = target/$(GNU_TARGET)/release

# What tests are built with beside what the binaries of `build` have.
FEATURES = outproxy/cloudhsm

.PHONY: help build test check check-units deny configs monitoring man demo bench bench-vsock bench-held bench-build \
	endurance endurance-vsock endurance-build fuzz

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

build: ## the binaries, in target/<target>/release: static ones, and enclave-app; needs musl-gcc
	rustup target add $(TARGET) $(GNU_TARGET)
	cargo build --release --target $(TARGET) -p inproxy -p outproxy -p host-client
	cargo build --release --target $(GNU_TARGET) -p enclave-app
	test $(GNU_BIN) -ef $(BIN) || cp -f $(GNU_BIN)/enclave-app $(BIN)/

test: build ## every test, also those over real AF_VSOCK in a virtual machine
	tests/lab/setup
	BIN_DIR=$(CURDIR)/$(BIN) cargo nextest run --workspace --exclude enclave-app --features $(FEATURES) --target $(TARGET) --profile ci
	cargo nextest run -p enclave-app --profile ci
	cargo nextest run -p tests --test corpora --profile ci enclave_app_config

check: ## format, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features $(FEATURES) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

check-units: ## what systemd thinks of the units in configs/; needs systemd-analyze
	tests/check-units

deny: ## licences, sources and bans of all dependencies; needs cargo-deny
	cargo deny check bans licenses sources

configs: build ## every file in configs/, as the binaries see it, also with its examples
	$(BIN)/outproxy --check --config configs/outproxy.toml
	sed 's/^#\([[a-z]\)/\1/' configs/outproxy.toml | $(BIN)/outproxy --check --config /dev/stdin
	$(BIN)/outproxy --check --config configs/two-enclaves.toml
	$(BIN)/inproxy --check --config configs/inproxy.toml
	sed 's/^#\([[a-z]\)/\1/' configs/inproxy.toml | $(BIN)/inproxy --check --config /dev/stdin
	$(BIN)/enclave-app --check --config configs/enclave-app.toml
	sed 's/^#\([[a-z]\)/\1/; s|/etc/private-ca.pem|/etc/ssl/certs/ca-certificates.crt|' configs/enclave-app.toml | $(BIN)/enclave-app --check --config /dev/stdin
	python3 -m json.tool configs/iam-policy.json >/dev/null
	@if command -v hadolint >/dev/null; \
	then hadolint --failure-threshold error configs/enclave.Dockerfile; \
	else echo 'skipped: configs/enclave.Dockerfile, since there is no hadolint here'; fi

MAN = target/man
COMPLETIONS = target/completions

man: build ## the manual pages, in target/man, and what completes commands, in target/completions
	mkdir -p $(MAN) $(COMPLETIONS)
	cp docs/man/*.5 $(MAN)/
	set -e; for page in host-client.1 inproxy.8 outproxy.8 enclave-app.8; do \
		$(BIN)/$${page%.*} man >$(MAN)/$$page; \
		for shell in bash fish zsh; do \
			$(BIN)/$${page%.*} completions $$shell >$(COMPLETIONS)/$${page%.*}.$$shell; \
		done; \
	done

monitoring: ## alerts and dashboard, as promtool sees them
	tests/monitoring/setup
	tests/monitoring/check

.PHONY: package packages test-packages test-systemd

packages: ## .deb, .rpm, SBOMs and checksums, in target/packages; for aarch64, too, with Debian's compiler for it
	rm -rf target/packages
	$(MAKE) man package
	@if command -v $(AARCH64)-gcc >/dev/null; then $(MAKE) package TARGET=aarch64-unknown-linux-musl; \
	else echo 'skipped: packages for aarch64, which need gcc-aarch64-linux-gnu and libc6-dev-arm64-cross'; fi
	cd target/packages && sha256sum -- * >SHA256SUMS

package: build
	packages/setup
	packages/build $(TARGET)

# ring and enclave-app need C, of which musl-gcc and cargo know only this machine's.
AARCH64 = aarch64-linux-gnu
ifneq ($(shell uname -m),aarch64)
export CC_aarch64_unknown_linux_musl = $(AARCH64)-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER = $(AARCH64)-gcc
endif

test-packages: ## what `make packages` has made: contents, modes, configuration, SBOMs, reproducibility
	tests/packages

test-systemd: packages ## the package on a fresh Debian with systemd, in a virtual machine
	cargo build --release --target $(TARGET) -p tests --bin traffic
	tests/lab/setup
	BIN_DIR=$(BIN) tests/systemd/run target/packages

demo: build ## the whole path on one machine: no root, no VM, no Nitro
	BIN_DIR=$(BIN) tests/demo

# What `bench --help` and `endurance --help` list, such as ARGS="--rounds 9 --only rr --chart c.svg".
ARGS =

bench: bench-build ## our speed beside that of socat, HAProxy and nginx; ARGS="--help" tells more
	tests/bench/setup
	BIN_DIR=$(BIN) $(BIN)/bench $(ARGS)

bench-vsock: bench-build ## the same beside socat over AF_VSOCK, in a virtual machine
	tests/lab/setup
	BIN_DIR=$(BIN) tests/bench/vm $(ARGS)

# Two runs of it agree within 2 %, whatever else this machine does; see tests/bench/targets.rs.
bench-held: bench-build ## whether our speed over AF_VSOCK, in instructions, is what it has been beside socat
	tests/bench/setup
	tests/lab/setup
	BIN_DIR=$(BIN) tests/bench/vm --hold --peers socat --only bulk,rr,conn --rounds 2 --millis 300

bench-build: build
	cargo build --release --target $(TARGET) -p tests --bin bench

endurance: endurance-build ## what the proxies must survive, for hours; ARGS=--short for minutes
	BIN_DIR=$(CURDIR)/$(BIN) $(BIN)/endurance $(ARGS)

endurance-vsock: endurance-build ## the same over AF_VSOCK, in a virtual machine; mind ARGS="--only idle"
	tests/lab/setup
	BIN_DIR=$(BIN) tests/endurance/vm $(ARGS)

endurance-build: build
	cargo build --release --target $(TARGET) -p tests --bin endurance

# How long each fuzz target runs.
SECONDS ?= 60
FUZZ = cargo fuzz run --sanitizer none --target-dir target/fuzz

fuzz: ## look for bytes that break what tests/src/fuzz promises, SECONDS for each target; needs cargo-fuzz
	cp Cargo.lock fuzz/Cargo.lock
	set -e; for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		found=target/fuzz/corpus/$$target; mkdir -p $$found; \
		$(FUZZ) $$target $$found fuzz/corpus/$$target -- \
			-max_total_time=$(SECONDS) -timeout=30 -print_final_stats=1; \
	done
