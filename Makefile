SHELL := bash
.DEFAULT_GOAL := help
PORT ?= 8080

# Every recipe uses the pinned compiler, even if rustup has it under another name.
ifndef RUSTUP_TOOLCHAIN
export RUSTUP_TOOLCHAIN := $(shell scripts/toolchain)
endif

# npm writes these files once the JavaScript packages are installed.
JS_PACKAGES := $(patsubst %,%/node_modules/.package-lock.json,clients/typescript tests/js)

# The rule below writes this file once the packages of the Python tests are installed.
PY_PACKAGES := $(patsubst %/requirements.txt,%/.venv/.installed,$(wildcard tests/py/requirements.txt))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: ## Start Kafka, Postgres, Redis and Messages on http://127.0.0.1:8080 (another port: make run PORT=8081)
	@exec scripts/run $(PORT)

.PHONY: test
test: ## Check the format, lint and run all tests; stop at the first failure
	@scripts/phase "services" scripts/services up --with-test-tools
	@$(MAKE) --no-print-directory js py
	@scripts/phase "cargo fmt" cargo fmt --all --check
	@scripts/phase "cargo clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
	@eval "$$(scripts/services env)"; scripts/phase "cargo test" cargo test --workspace --locked && \
	  scripts/phase "cargo test, the contract with two processes of each service behind nginx" \
	    env MESSAGES_TEST_LAYOUT=apart RUST_TEST_THREADS=2 cargo test --workspace --locked --test it -- contract:: && \
	  scripts/phase "cargo test, tests that need the whole machine" \
	    cargo test --workspace --locked --test it -- --ignored --skip proof:: --test-threads 1

.PHONY: proof
proof: ## Prove what takes too long for a test, also next to the parent commit (options: make proof ARGS=--help)
	@scripts/proof $(ARGS)

.PHONY: bench
bench: ## Measure Messages next to floors with the same hops (options: make bench ARGS=--help)
	@scripts/services up
	@cargo build --release --locked -p messages -p bench
	@eval "$$(scripts/services env)"; exec "$${CARGO_TARGET_DIR:-target}/release/bench" $(ARGS)

.PHONY: fmt
fmt: ## Format the code
	@cargo fmt --all

.PHONY: down
down: ## Stop Kafka, Postgres and Redis; keep their data
	@scripts/services down

.PHONY: clean
clean: ## Stop Kafka, Postgres and Redis; delete their data, the build and the installed packages
	@scripts/services down --wipe
	@cargo clean
	@rm -rf .services clients/typescript/{dist,node_modules} tests/js/node_modules tests/py/.venv

.PHONY: js
js: clients/typescript/dist/index.js $(JS_PACKAGES)

%/node_modules/.package-lock.json: %/package-lock.json
	@scripts/phase "npm ci, $*" npm ci --prefix $* --ignore-scripts --silent --no-audit --no-fund
	@touch $@

clients/typescript/dist/index.js: clients/typescript/node_modules/.package-lock.json $(wildcard clients/typescript/src/*.ts) clients/typescript/tsconfig.json
	@scripts/phase "npm run build, clients/typescript" npm run build --prefix clients/typescript --silent
	@touch $@

.PHONY: py
py: $(PY_PACKAGES)

tests/py/.venv/.installed: tests/py/requirements.txt
	@rm -rf $(@D)
	@scripts/phase "pip install" sh -c 'python3 -m venv $(@D) && $(@D)/bin/pip install --quiet --disable-pip-version-check --no-input -r $<'
	@touch $@
