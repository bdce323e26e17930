# The commands of this project; what they do in detail is in the scripts that they call.
.PHONY: demo test drill nemesis faults lint ratios fuzz sbom audit book release publishable image image-release image-kafka soak

CARGO ?= cargo

# Builds and shows replication both ways between two embedded clusters. Needs a Rust toolchain and a C compiler.
demo:
	$(CARGO) build --release --package kuroshio
	target/release/kuroshio demo

# Every test. Installs or starts what is missing: Docker engine, Kafka image.
test: image-kafka
	$(CARGO) test --workspace --no-run
	$(CARGO) test --workspace

# A region is lost, left, returned to, and filled again under a new alias; prints what it took (docs/drill.md).
drill: image-kafka
	$(CARGO) build --package kuroshio
	$(CARGO) test --package kuroshio-integration --test it drill:: -- --nocapture

# Random faults between two real clusters of three brokers, for ten minutes (docs/faults.md); `make test` has a minute of it.
# KUROSHIO_SEED=N repeats a run.
NEMESIS_SECONDS ?= 600
nemesis: image-kafka
	$(CARGO) build --package kuroshio
	NEMESIS_SECONDS=$(NEMESIS_SECONDS) $(CARGO) test --package kuroshio-integration --test it nemesis::random_faults -- --exact --nocapture

# Every fault by itself, and the table of docs/faults.md: half an hour. NEMESIS_FAULT="frozen,clock": those with one of these in their names.
faults: image-kafka
	$(CARGO) build --package kuroshio
	$(CARGO) test --package kuroshio-integration --test it nemesis::every_fault_by_itself -- --exact --ignored --nocapture

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

# An hour under load with instances that come and go: what is needed stays flat, and all is exact at the end (benches/README.md).
MINUTES ?= 60
RATE ?= 5000
soak: image-kafka
	$(CARGO) build --release --package kuroshio --package kuroshio-benches --bin kuroshio --bin soak
	target/release/soak --minutes $(MINUTES) --rate $(RATE)

# What others can send to us does no harm: every target of `fuzz` on its seeds and corpus, then FUZZ_SECONDS of new inputs each.
# TARGETS="config import" for some of them.
FUZZ_SECONDS ?= 5
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) CARGO=$(CARGO) fuzz/run.sh $(TARGETS)

# target/kuroshio.cdx.json: what the binary is made of, as CycloneDX.
sbom:
	CARGO=$(CARGO) replicator/sbom.sh

# Known vulnerabilities of what we depend on. Not a part of CI, which has no way to the database; before a release, and by a timer.
audit:
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	@$(CARGO) deny fetch db || { echo "audit: RustSec's database of advisories cannot be reached from here: NOTHING WAS CHECKED" >&2; exit 1; }
	$(CARGO) deny check advisories

# target/book: the documentation as HTML. Not optimised, since compiling mdBook takes longer than it ever works here.
MDBOOK ?= mdbook
book:
	$(MDBOOK) --version >/dev/null 2>&1 || $(CARGO) install --locked --debug --no-default-features --features search mdbook@0.5.4
	$(MDBOOK) build

# The image kuroshio:VERSION, from a release build on this machine and Debian's packages; no registry is asked (docs/image.md).
IMAGE ?= kuroshio:$(VERSION)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
image:
	$(CARGO) build --release --locked --package kuroshio
	replicator/image/build.sh $${CARGO_TARGET_DIR:-target}/release/kuroshio $(IMAGE)

# The same for amd64 and arm64, compiled within and pushed: needs a registry, and a builder with both (docs/image.md).
image-release:
	docker buildx build --file replicator/image/Dockerfile --target built --platform linux/amd64,linux/arm64 --push --tag $(IMAGE) \
	  --provenance=true --sbom=true --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git describe --always --dirty --abbrev=40 --exclude '*') \
	  --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) \
	  --build-arg CREATED=$$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ) .

# target/release-VERSION: binary, manual, completions, SBOM, chart, checksums. Publishes nothing.
release:
	CARGO=$(CARGO) replicator/release.sh $(VERSION)

# Whether the crates for services could be published as they are: packed, and compiled from what was packed. Publishes nothing.
publishable:
	$(CARGO) publish --dry-run --locked --package kuroshio-core --package kuroshio-wire --package kuroshio-client

# The images apache/kafka:VERSION, pulled or built.
VERSIONS ?= 4.3.1 3.9.1
image-kafka:
	integration/setup.sh $(VERSIONS)
