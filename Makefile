# SPDX-License-Identifier: Apache-2.0
# bantam: `make help` lists the targets.

FLAVOUR  ?= release
B        := $(if $(filter release,$(FLAVOUR)),build,build/$(FLAVOUR))
CACHE    := $(or $(BANTAM_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bantam)
Q        := $(if $(V),,@)
ARCH     := x86_64

# ---- sources, one explicit list a room ----
CORE_SRC     := error guest_memory bus loop rate_limiter sink log metrics metrics_groups metrics_json
ARCH_SRC     := kernel elf bzimage boot_params cmdline aml acpi mptable cpuid cpu_state pit cpu_saved cpu_saved_fields chips_saved host_cpu
DEVICE_SRC   := serial console i8042 boot_timer acpi_pm vmgenid vmclock
VMM_SRC      := vm vm_devices vm_saved vm_snapshot vm_pair vm_record machine machine_devices machine_saved uffd_watch vcpu kvm kvm_ahead options signals footprint privileges seccomp
VIRTIO_SRC   := device queue mmio saved block block_request block_metrics block_file block_uring net tap net_rx net_announce vsock vsock_rx vsock_conn vsock_stream vsock_host rng
SNAPSHOT_SRC := state state_file output memory compressed recompress dirty merge uffd working_set
API_SRC      := text http server json schema routes config_file fields resources
MAIN_SRC     := vmm/main.c
CLI_SRC      := api/cli/main.c api/cli/snapshot.c
JAILER_SRC   := fail number options cgroup_plan plan journal files exec_copy cgroup namespaces few_mounts mounts devices landlock privileges \
		program remove_cgroup remove spawn build supervise

LIB_SRC := $(CORE_SRC:%=vmm/core/%.c) $(ARCH_SRC:%=vmm/arch/$(ARCH)/%.c) $(DEVICE_SRC:%=vmm/devices/%.c) \
	   $(VMM_SRC:%=vmm/%.c) $(VIRTIO_SRC:%=virtio/%.c) $(SNAPSHOT_SRC:%=snapshots/%.c) $(API_SRC:%=api/%.c)

GUEST_SRC := $(filter-out tests/guest/guest.c,$(wildcard tests/guest/*.c))
UNIT_SRC := $(wildcard tests/unit/test_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)

# ---- tools and flags ----
CC        = $(or $(CC_$(FLAVOUR)),gcc)
CC_fuzz  := clang
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
	    -Wold-style-definition -Wswitch-enum -Wformat=2 -Wcast-qual -Wvla -Wundef -Wpointer-arith \
	    -Wwrite-strings -Werror $(if $(filter fuzz,$(FLAVOUR)),-Wimplicit-fallthrough,-Wimplicit-fallthrough=5)
CPPFLAGS += -D_GNU_SOURCE -I. -isystem $(CACHE)/$(LIBC)/include -MMD -MP
CFLAGS   += -std=gnu17 -g $(WARN) -fno-strict-aliasing -fno-common $(CFLAGS_$(FLAVOUR))
LDFLAGS  += $(LDFLAGS_$(FLAVOUR))
LDLIBS    = -L$(CACHE)/$(LIBC)/lib -levent_core -luring -l:libcjson.a -llz4 -lpthread
HARDEN   := -fstack-protector-strong -ftrivial-auto-var-init=zero -fcf-protection=full -D_FORTIFY_SOURCE=2

# The release is static against musl (resources/host/static-libs says why); the other flavours use the system's C library,
# because sanitizers and cmocka come with it. musl-gcc does not know static-pie: its start files are named here.
LIBC     := $(if $(filter release,$(FLAVOUR)),musl,cjson)
MUSL     := /usr/lib/$(ARCH)-linux-musl
crt       = $(shell gcc -print-file-name=$1)
CC_release      := musl-gcc
# musl's ioctl() takes an int, into which no request fits without a change of sign; the other flavours check all signs.
CFLAGS_release  := -Wno-sign-conversion -Wno-overflow -O2 -fPIE -ffunction-sections -fdata-sections $(HARDEN)
LDFLAGS_release  = -static -pie -nostartfiles -Wl,-pie,--no-dynamic-linker,--gc-sections -Wl,-z,text,-z,relro,-z,now,-z,noexecstack \
		   $(MUSL)/rcrt1.o $(MUSL)/crti.o $(call crt,crtbeginS.o) $(call crt,crtendS.o) $(MUSL)/crtn.o
CFLAGS_plain    := -O2 $(HARDEN)
CFLAGS_asan     := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS_asan    := -fsanitize=address,undefined
CFLAGS_tsan     := -O1 -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS_tsan    := -fsanitize=thread
CFLAGS_cov      := -O0 --coverage
LDFLAGS_cov     := --coverage
CFLAGS_fuzz     := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS_fuzz    := -fsanitize=address,undefined

LIB_OBJ  := $(LIB_SRC:%.c=$B/obj/%.o) $B/obj/seccomp_filters.o
POLICIES := resources/seccomp/main.json resources/seccomp/vcpu.json $(if $(filter release,$(FLAVOUR)),,resources/seccomp/sanitizers.json)
JAILER_OBJ := $(JAILER_SRC:%=$B/obj/jailer/%.o)
CAP_LIB   = -L$(CACHE)/$(LIBC)/lib -lcap
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$B/tests/%)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$B/fuzz/%)

.DEFAULT_GOAL := all
.PHONY: all demo test lint format asan tsan plain fuzz fuzz-bins guests cov bench kernel install man clean help unit deps

all: deps $B/bantam-vmm $B/bantam-jailer $B/bantam build/bantam-seccomp ## build the programs (release, in build/)

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

deps:
	@resources/host/deps --quiet build

$B/bantam-vmm: $(MAIN_SRC:%.c=$B/obj/%.o) $B/libbantam.a
$B/bantam: $(CLI_SRC:%.c=$B/obj/%.o) $B/libbantam.a
$B/bantam-vmm $B/bantam:
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@.debug
	$(Q)objcopy --strip-all $@.debug $@

# The filters' compiler runs at build time: with the system's C library, in every flavour.
build/bantam-seccomp: resources/seccomp/compile.c vmm/seccomp_format.h | deps
	@mkdir -p $(@D)
	@echo "  LD    $@"
	$(Q)gcc -std=gnu17 -O2 $(WARN) -D_GNU_SOURCE -I. -isystem $(CACHE)/cjson/include $< -L$(CACHE)/cjson/lib -lseccomp -l:libcjson.a -o $@

build/seccomp.bin: build/bantam-seccomp resources/seccomp/main.json resources/seccomp/vcpu.json
	$(Q)build/bantam-seccomp -o $@ $(filter %.json,$^)

$B/obj/seccomp_filters.c: build/bantam-seccomp $(POLICIES)
	@mkdir -p $(@D)
	$(Q)build/bantam-seccomp --c-source -o $@ $(POLICIES)

$B/obj/seccomp_filters.o: $B/obj/seccomp_filters.c
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

# The jailer shares nothing with the monitor.
$B/bantam-jailer: $B/obj/jailer/main.o $B/libjailer.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ $(CAP_LIB) -o $@.debug
	$(Q)objcopy --strip-all $@.debug $@

$B/libjailer.a: $(JAILER_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$B/tests/test_jailer_%: tests/unit/test_jailer_%.c $B/libjailer.a
	@mkdir -p $(@D)
	@echo "  UNIT  $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< $B/libjailer.a $(CAP_LIB) -lcmocka -o $@

$B/libbantam.a: $(LIB_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$B/obj/%.o: %.c Makefile | deps
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$B/tests/test_seccomp: build/seccomp.bin
$B/tests/%: tests/unit/%.c $B/libbantam.a
	@mkdir -p $(@D)
	@echo "  UNIT  $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< $B/libbantam.a $(LDLIBS) -lcmocka -o $@

$B/fuzz/%: tests/fuzz/%.c $B/libbantam.a
	@mkdir -p $(@D)
	@echo "  FUZZ  $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) $< $B/libbantam.a $(LDLIBS) -o $@

# Tiny guests are flat 32-bit programs: no library, no floating point (emulated hosts lack SSE).
build/guest/%.elf: tests/guest/%.c tests/guest/guest.c tests/guest/start.S tests/guest/guest.ld tests/guest/guest.h
	@mkdir -p $(@D)
	@echo "  GUEST $<"
	$(Q)gcc -m32 -march=i686 -mno-sse -O1 -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fcf-protection=none \
		-Wall -Wextra -Werror -I. -nostdlib -static -no-pie -Wl,-T,tests/guest/guest.ld -Wl,--build-id=none,--no-warn-rwx-segments \
		tests/guest/start.S tests/guest/guest.c $< -o $@.32
	$(Q)objcopy -I elf32-i386 -O elf64-x86-64 $@.32 $@

guests: $(GUEST_SRC:tests/guest/%.c=build/guest/%.elf)
unit: $(UNIT_BIN)
fuzz-bins: $(FUZZ_BIN)

asan tsan plain: ## build everything and the unit tests with ASan+UBSan / TSan / the system's C library
	@$(MAKE) --no-print-directory FLAVOUR=$@ all unit

cov: ## unit and native system tests with coverage, summary at the end
	@resources/host/deps test
	@tests/run --coverage

test: ## all levels: unit, guest, system, fuzz smoke; one summary
	@resources/host/deps build test kernel man
	@tests/run

fuzz: ## fuzz every parser for a long time (FUZZ_SECONDS each, default 600)
	@resources/host/deps build test
	@$(MAKE) --no-print-directory FLAVOUR=fuzz fuzz-bins
	@tests/fuzz/run --seconds $(or $(FUZZ_SECONDS),600)

demo: ## boot a microVM through the API and show what it does
	@resources/host/deps build test
	@$(MAKE) --no-print-directory all
	@tests/system/demo

bench: all ## compare with other monitors: make bench ARGS="--vmm build/bantam-vmm --vmm OTHER"
	@resources/host/deps test
	@tests/bench/run $(ARGS)

kernel: ## build the tuned guest kernel from Debian's kernel source
	@resources/host/deps kernel
	@resources/guest/build-kernel

lint: ## clang-format, clang-tidy, cppcheck, shell and Python checks
	@resources/host/deps build test
	@tests/lint

format: ## rewrite the sources in the house's layout
	@git ls-files '*.c' '*.h' | xargs clang-format -i

PREFIX ?= /usr/local
PROGRAMS := bantam bantam-vmm bantam-jailer bantam-seccomp
install: man ## install programs, man pages and completion under PREFIX (default /usr/local)
	install -D -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS:%=build/%)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(PROGRAMS:%=build/man/%.1)
	for name in $(PROGRAMS); do install -D -m 644 resources/completion/bantam.sh $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$name; done

man: all ## man pages, in build/man, of the programs' --help
	@resources/host/deps --quiet man && resources/man/make build build/man

clean: ## remove everything that was built
	rm -rf build

-include $(shell find $B/obj $B/tests $B/fuzz -name '*.d' 2>/dev/null)
