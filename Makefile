# Everything that a person or CI runs. `make help` lists it.
TARGET ?= x86_64-unknown-linux-musl
BIN = target/$(TARGET)/release

.PHONY: help build test check deny configs demo bench bench-vsock bench-build

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

build: ## the static binaries, in target/<target>/release
	rustup target add $(TARGET)
	cargo build --release --target $(TARGET) -p inproxy -p outproxy

test: build ## every test, also those over real AF_VSOCK in a virtual machine
	tests/lab/setup
	BIN_DIR=$(CURDIR)/$(BIN) cargo nextest run --workspace --target $(TARGET) --profile ci

check: ## format, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny: ## licences, sources and bans of all dependencies; needs cargo-deny
	cargo deny check bans licenses sources

configs: build ## every file in configs/, as the binaries see it, also with its examples
	$(BIN)/outproxy --check --config configs/outproxy.toml
	sed 's/^#\([[a-z]\)/\1/' configs/outproxy.toml | $(BIN)/outproxy --check --config /dev/stdin
	$(BIN)/inproxy --check --config configs/inproxy.toml
	sed 's/^#\([[a-z]\)/\1/' configs/inproxy.toml | $(BIN)/inproxy --check --config /dev/stdin

demo: build ## the whole path on one machine: no root, no VM, no Nitro
	BIN_DIR=$(BIN) tests/demo

# What `bench --help` lists, such as ARGS="--rounds 9 --only rr --chart chart.svg".
ARGS =

bench: bench-build ## our speed beside that of socat, HAProxy and nginx; ARGS="--help" tells more
	tests/bench/setup
	BIN_DIR=$(BIN) $(BIN)/bench $(ARGS)

bench-vsock: bench-build ## the same beside socat over AF_VSOCK, in a virtual machine
	tests/lab/setup
	BIN_DIR=$(BIN) tests/bench/vm $(ARGS)

bench-build: build
	cargo build --release --target $(TARGET) -p tests --bin bench
