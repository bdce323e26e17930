# The commands of this project; what they do in detail is in the scripts that they call.
.PHONY: demo test lint ratios image-kafka

CARGO ?= cargo

# Builds and shows replication both ways between two embedded clusters. Needs a Rust toolchain and a C compiler.
demo:
	$(CARGO) build --release --package kuroshio
	target/release/kuroshio demo

# Every test. Installs or starts what is missing: Docker engine, Kafka image.
test: image-kafka
	$(CARGO) test --workspace --no-run
	$(CARGO) test --workspace

# What CI refuses.
lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

# Fails when a rule of the core takes many times as long as a plain loop that does the same work, in the same run.
ratios:
	$(CARGO) bench --package kuroshio-core-benches --bench ratios

# The images apache/kafka:VERSION, pulled or built.
VERSIONS ?= 4.3.1 3.9.1
image-kafka:
	integration/setup.sh $(VERSIONS)
