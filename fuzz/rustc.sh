#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER: compiles our own crates, and what is generic in others, so that libFuzzer sees what is reached. These are
# options of LLVM, which every toolchain has; other crates stay as every build has them, and so does what runs while building.
case " $* " in
*" build_script_build "* | *" proc-macro "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
