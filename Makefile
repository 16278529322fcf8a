# wharf: `make demo` shows it at work, `make test` runs every test. Both install what they need.

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
# Tests make containers, so their programs run as root; compiling does not.
RUNNER := CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
CARGO := cargo

.PHONY: all build demo test check tools bench clean

all: build

build:
	$(CARGO) build --release
	@# Cargo puts the program of a named target below that target's folder; people look for it here.
	@mkdir -p target/release && ln -sfn ../$(HOST)/release/wharf target/release/wharf

tools:
	@scripts/packages gcc libc6-dev

demo: tools build
	$(SUDO) scripts/demo target/release/wharf

test: tools check
	@scripts/packages busybox-static curl docker-registry skopeo iproute2 nftables iptables mmdebstrap debian-archive-keyring ca-certificates \
		qemu-system-x86 e2fsprogs kmod cpio xz-utils binutils
	$(if $(SUDO),$(RUNNER)="$(SUDO)") $(CARGO) test --lib --bins --tests -- --skip vm::
	$(if $(SUDO),$(RUNNER)="$(SUDO)") $(CARGO) test --test e2e vm:: -- --test-threads 1
	$(if $(SUDO),$(RUNNER)="$(SUDO)") $(CARGO) test --doc

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

bench: tools
	@scripts/packages busybox-static docker-registry
	$(if $(SUDO),$(RUNNER)="$(SUDO)") $(CARGO) bench --bench budgets

clean:
	$(CARGO) clean
