# Everything that a person or CI runs. `make help` lists it.
TARGET ?= x86_64-unknown-linux-musl
BIN = target/$(TARGET)/release

# How long each fuzz target runs.
SECONDS ?= 60
FUZZ = cargo fuzz run --sanitizer none --target-dir target/fuzz

.PHONY: help build test check deny configs demo fuzz

help: ## list what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

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

fuzz: ## look for bytes that break what tests/src/fuzz promises, SECONDS for each target; needs cargo-fuzz
	cp Cargo.lock fuzz/Cargo.lock
	set -e; for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		found=target/fuzz/corpus/$$target; mkdir -p $$found; \
		$(FUZZ) $$target $$found fuzz/corpus/$$target -- \
			-max_total_time=$(SECONDS) -timeout=30 -print_final_stats=1; \
	done
