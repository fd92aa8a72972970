# What can be done here. `make` alone says it.

SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Those that Cargo.toml names, so that none is forgotten here.
FEATURES := $(filter-out default,\
	$(shell sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9-]*\) = .*/\1/p' Cargo.toml))

.PHONY: help
help:
	@sed -n 's/^## /make /p' Makefile

## run         build for speed, and answer text with its upper case on 127.0.0.1:9000
.PHONY: run
run:
	$(CARGO) run --release --bin evmux -- serve --service upper --model epoll --listen 127.0.0.1:9000

## test        all tests that need Rust and python3 only
.PHONY: test
test: python
	$(CARGO) test
	$(CARGO) build
	cd tests/peers && EVMUX=$(TARGET)/debug/evmux \
		$(PYTHON) -B -W error::ResourceWarning -m unittest $(PURE)

## test-peers  tests against programs of Debian, which it installs where they are missing
.PHONY: test-peers
test-peers: python programs
	$(CARGO) build --release
	EVMUX=$(TARGET)/release/evmux $(PEERS)

# Those that need nothing but python3.
PURE = $(filter-out test_programs test_monitors test_report test_pictures test_load_programs,$(basename $(notdir $(wildcard tests/peers/test_*.py))))

PEERS = $(PYTHON) -B -W error::ResourceWarning -m unittest discover -s tests/peers -t tests/peers

.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: the tests need python3, and there is none: apt-get install python3" >&2; exit 1; }

# Each program, and the package that it is in.
PROGRAMS := haproxy:haproxy nc:netcat-openbsd curl:curl socat:socat ncat:ncat valgrind:valgrind \
	prometheus:prometheus promtool:prometheus chromium:chromium chromedriver:chromium-driver

.PHONY: programs
programs:
	@missing=(); for program in $(PROGRAMS); do \
		command -v "$${program%%:*}" >/dev/null || [ -x "/usr/sbin/$${program%%:*}" ] \
			|| missing+=("$${program##*:}"); \
	done; \
	if (( $${#missing[@]} )); then \
		echo "installing $${missing[*]}"; \
		as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		$$as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			$$as_root apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi

## simulate    the loop in simulated worlds, for each handler and both triggers: SEEDS=20000 START=0
.PHONY: simulate
simulate: SEEDS ?= 20000
simulate: START ?= 0
simulate:
	EVMUX_SIM_START=$(START) EVMUX_SIM_SEEDS=$(SEEDS) $(CARGO) test --test simulation

## mutants     put each deliberate bug into a copy of the tree, and see that the tests see it: ONLY=name
.PHONY: mutants
mutants: python
	$(PYTHON) -B tests/mutants/run.py . $(TARGET)/mutants $(if $(ONLY),"$(ONLY)")

## conformance every handler under every model in every situation, as docs/conformance.md
.PHONY: conformance
conformance: python
	$(CARGO) test --test conformance -- --test-threads=12 > $(TARGET)/conformance.txt \
		|| { cat $(TARGET)/conformance.txt; exit 1; }
	$(PYTHON) -B tests/conformance/page.py < $(TARGET)/conformance.txt > $(TARGET)/conformance.md
	mv $(TARGET)/conformance.md docs/conformance.md

# As cargo-fuzz has them, so that it need not be there.
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions \
	-Ccodegen-units=1 -Zsanitizer=address
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

## fuzz        any bytes for what reads a stranger's, with a nightly toolchain: FUZZ=blocks MINUTES=10
.PHONY: fuzz
fuzz: FUZZ ?= blocks lines upper connection http1 xmlrpc
fuzz: MINUTES ?= 10
fuzz:
	cd fuzz && RUSTFLAGS="$(COVERAGE)" CARGO_TARGET_DIR=$(TARGET)/fuzz \
		$(CARGO) +nightly build --release --target $(HOST)
	for target in $(FUZZ); do \
		mkdir -p $(TARGET)/fuzz/corpus/$$target && cp fuzz/corpus/$$target/* $(TARGET)/fuzz/corpus/$$target/; \
		$(TARGET)/fuzz/$(HOST)/release/$$target -max_len=600 -print_final_stats=1 \
			-max_total_time=$$(( $(MINUTES) * 60 )) -artifact_prefix=$(TARGET)/fuzz/$$target- \
			$(TARGET)/fuzz/corpus/$$target || exit; \
	done

# A connection without a socket.
CONNECTION_TESTS := $(basename $(notdir $(wildcard tests/connection*.rs)))

## cargo-mutants  bugs made by a program in what moves bytes, each shown to the fast tests: SHARD=0/16
.PHONY: cargo-mutants
cargo-mutants: SHARD ?= 0/1
cargo-mutants: MUTATED := src/buffer.rs src/codec/*.rs src/connection/*.rs src/transfer.rs src/timers.rs
cargo-mutants: export CARGO_TARGET_DIR := $(TARGET)/cargo-mutants
cargo-mutants: export CARGO_PROFILE_DEV_OPT_LEVEL := 0
cargo-mutants: export CARGO_PROFILE_DEV_DEBUG := 0
cargo-mutants: export EVMUX_SIM_SEEDS := 300
cargo-mutants: export PROPTEST_FAILURE_PERSISTENCE := off
cargo-mutants:
	$(CARGO) mutants $(foreach file,$(MUTATED),--file '$(file)') --no-default-features --features sim \
		$(addprefix --cargo-arg=,--lib $(addprefix --test=,$(CONNECTION_TESTS) simulation)) \
		--cap-lints true --timeout 40 --shard $(SHARD) --sharding round-robin --output $(TARGET)

# An interpreter sees every access out of bounds and every race, but knows few system calls: neither
# poll(2) nor datagrams. The property of a connection would take it hours.
MIRI := buffer:: codec:: counters:: timers:: trace::tests services:: front::quiet datagram::tests

## miri        what needs no socket, in an interpreter that sees undefined behaviour and races
.PHONY: miri
miri: export MIRIFLAGS := -Zmiri-disable-isolation
miri: export PROPTEST_CASES := 8
miri: export CARGO_TARGET_DIR := $(TARGET)/miri
miri:
	$(CARGO) +nightly miri test --no-default-features --lib -- $(MIRI) --skip net::
	$(CARGO) +nightly miri test --no-default-features \
		$(addprefix --test ,$(filter-out %_property,$(CONNECTION_TESTS)))

## sanitize    the calls of the kernel under AddressSanitizer, with a nightly toolchain
.PHONY: sanitize
sanitize: export RUSTFLAGS := -Zsanitizer=address
sanitize: export CARGO_TARGET_DIR := $(TARGET)/address
sanitize:
	$(CARGO) +nightly test --no-default-features --target $(HOST) --lib --test datagrams

## races       threads on real sockets under ThreadSanitizer, with a nightly toolchain and rust-src
# The sanitizer takes much memory itself, so the tests that count it are left out.
.PHONY: races
races: export RUSTFLAGS := -Zsanitizer=thread
races: export CARGO_TARGET_DIR := $(TARGET)/thread
races:
	$(CARGO) +nightly test -Zbuild-std --no-default-features --target $(HOST) \
		--lib --test datagrams --test mailbox --test sockets -- \
		--skip memory:: --skip a_thread_that_cannot_be_made_is_not_the_end

## soak        the program under clients of every kind: MINUTES=10 MODEL=epoll
.PHONY: soak
soak: MINUTES ?= 10
soak: MODEL ?= epoll
soak: python
	$(CARGO) build --release
	EVMUX=$(TARGET)/release/evmux $(PYTHON) -B tests/soak/soak.py $(MINUTES) $(MODEL)

## compare     the models side by side, in a report: OUT=DIR OPTIONS=--quick
.PHONY: compare
compare: OUT ?= $(TARGET)/evmux-compare
compare:
	$(CARGO) build --release
	$(TARGET)/release/evmux compare --out $(OUT) $(OPTIONS)

## study       the commands of docs/study, and what they must show
.PHONY: study
study: python
	$(CARGO) build --example slides_poll
	$(CARGO) test --test study

## study-pictures  make the pictures of docs/study again, from real runs; some minutes, and a browser
.PHONY: study-pictures
study-pictures: python programs
	$(CARGO) build --release --example slides_poll
	STUDY_PICTURES=$(abspath docs/study) $(CARGO) test --release --test study -- --test-threads=1

## fmt         bring the code into form
.PHONY: fmt
fmt:
	$(CARGO) fmt

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --check

## clippy      all warnings, with no feature, each alone, and all of them
.PHONY: clippy
clippy:
	$(CARGO) clippy --all-targets --no-default-features -- -D warnings
	for feature in $(FEATURES); do \
		$(CARGO) clippy --all-targets --no-default-features --features $$feature -- -D warnings \
			|| exit; \
	done
	$(CARGO) clippy --all-targets --all-features -- -D warnings

## doc         the documentation, of which no link is dead
.PHONY: doc
doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --lib --no-deps --all-features

# As an embedder builds it.
.PHONY: lean
lean:
	$(CARGO) build --lib --no-default-features

## loom        every order of the steps by which one thread wakes another
.PHONY: loom
loom:
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(TARGET)/loom CARGO_PROFILE_RELEASE_LTO=off \
		CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) test --release --lib --no-default-features mailbox

# As an embedder builds it: the engine, and no feature.
BENCH := $(CARGO) bench --no-default-features

## bench       codecs and a step of a connection without sockets, and the models side by side
.PHONY: bench
bench:
	$(BENCH) --bench codecs --bench connection
	$(BENCH) --bench front_ends

## bench-memory  what 19,000 idle connections keep, and a million without sockets
.PHONY: bench-memory
bench-memory:
	$(BENCH) --bench memory

## bench-peers the CPU that a message costs, beside hand-written loops and tokio: OPTIONS=--quick
.PHONY: bench-peers
bench-peers:
	$(CARGO) build --release
	EVMUX=$(TARGET)/release/evmux $(BENCH) --bench peers -- $(OPTIONS)

# With the program too, which has a thread for its log, and so another libc underneath.
INSTRUCTIONS = EVMUX=$(TARGET)/release/evmux $(BENCH) --bench instructions --

## check-instructions  those of a message, beside the ones kept: 3 % more fail
.PHONY: check-instructions
check-instructions: programs
	$(CARGO) build --release
	$(INSTRUCTIONS) --check

## instructions-baseline  keep those of today, with the compiler that made them
.PHONY: instructions-baseline
instructions-baseline: programs
	$(CARGO) build --release
	$(INSTRUCTIONS) --write

## cost        what counters, and a trace that is switched off, cost a message: 24 instructions
.PHONY: cost
cost: BARE := $(TARGET)/bare
cost: programs
	RUSTFLAGS="--cfg evmux_bare" CARGO_TARGET_DIR=$(BARE) \
		$(BENCH) --bench instructions -- --file $(BARE)/instructions.txt --write
	$(BENCH) --bench instructions -- --file $(BARE)/instructions.txt --cost

## bench-cost  the same in server CPU, on a quiet machine: at most half a percent
.PHONY: bench-cost
bench-cost: BARE := $(TARGET)/bare
bench-cost:
	bare=$$(RUSTFLAGS="--cfg evmux_bare" CARGO_TARGET_DIR=$(BARE) $(BENCH) --bench peers --no-run \
		--message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') && \
	EVMUX_BARE=$$bare $(BENCH) --bench peers -- --scenario counting --rounds 41

## bench-fairness  fifty who ping, without and with one who never stops, under each model
.PHONY: bench-fairness
bench-fairness:
	$(BENCH) --bench fairness

## ci          everything that must hold before a change goes in, each part with its seconds
.PHONY: ci
ci:
	@times=(); for part in fmt-check clippy lean doc loom test simulate test-peers check-instructions; do \
		echo "ci: $$part"; \
		began=$$SECONDS; \
		$(MAKE) --no-print-directory $$part || { echo "ci: $$part failed" >&2; exit 1; }; \
		times+=("$$part: $$(( SECONDS - began )) s"); \
	done; \
	printf 'ci: %s\n' "$${times[@]}" "all: $$SECONDS s"
