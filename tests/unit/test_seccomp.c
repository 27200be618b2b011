// SPDX-License-Identifier: Apache-2.0
/*
 * The released filters, entered by a child process each: a forbidden call ends it with exit code 148, an allowed one does
 * not. And filter files that are broken.
 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vmm/core/log.h"
#include "vmm/seccomp.h"
#include "vmm/seccomp_format.h"
#include "vmm/signals.h"

#define RELEASED_FILTERS "build/seccomp.bin" /* without what sanitizers need on top */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

struct attempt {
	const char *name;
	long number;
	long args[6];
};

static const char path[] = "/etc/passwd";
static char *const no_strings[] = {NULL};

#define PTR(pointer) ((long)(intptr_t)(pointer))

/* What somebody who has taken over the monitor would try. */
static const struct attempt forbidden_everywhere[] = {
	{"execve", SYS_execve, {PTR(path), PTR(no_strings), PTR(no_strings)}},
	{"execveat", SYS_execveat, {AT_FDCWD, PTR(path), PTR(no_strings), PTR(no_strings), 0}},
	{"fork", SYS_fork, {0}},
	{"vfork", SYS_vfork, {0}},
	{"clone", SYS_clone, {SIGCHLD}},
	{"clone3", SYS_clone3, {0}},
	{"ptrace", SYS_ptrace, {0}},
	{"process_vm_readv", SYS_process_vm_readv, {1}},
	{"kill", SYS_kill, {1, 0}},
	{"socket(AF_INET)", SYS_socket, {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0}},
	{"socket(AF_NETLINK)", SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0}},
	{"socket(AF_PACKET)", SYS_socket, {AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0}},
	{"bind", SYS_bind, {0}},
	{"mount", SYS_mount, {0}},
	{"umount2", SYS_umount2, {0}},
	{"pivot_root", SYS_pivot_root, {0}},
	{"chroot", SYS_chroot, {PTR(path)}},
	{"unshare", SYS_unshare, {CLONE_NEWUSER}},
	{"setns", SYS_setns, {0}},
	{"setuid", SYS_setuid, {0}},
	{"capset", SYS_capset, {0}},
	{"prctl", SYS_prctl, {0}},
	{"seccomp", SYS_seccomp, {0}},
	{"bpf", SYS_bpf, {0}},
	{"perf_event_open", SYS_perf_event_open, {0}},
	{"keyctl", SYS_keyctl, {0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"kexec_load", SYS_kexec_load, {0}},
	{"init_module", SYS_init_module, {0}},
	{"mknod", SYS_mknod, {PTR(path), 0, 0}},
	{"mprotect(PROT_EXEC)", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}},
	{"mmap(PROT_EXEC)",
	 SYS_mmap,
	 {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"rt_sigaction(SIGSYS)", SYS_rt_sigaction, {SIGSYS, 0, 0, 8}},
	{"open(O_CREAT)", SYS_open, {PTR("/tmp/x"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600}},
	{"openat(O_TRUNC)", SYS_openat, {AT_FDCWD, PTR(path), O_TRUNC | O_WRONLY | O_CLOEXEC, 0}},
	{"KVM_CREATE_VM", SYS_ioctl, {0, KVM_CREATE_VM, 0}},
	{"TIOCSTI", SYS_ioctl, {0, 0x5412, 0}},
	{"chmod", SYS_chmod, {PTR(path), 0}},
	{"link", SYS_link, {PTR(path), PTR(path)}},
	{"symlink", SYS_symlink, {PTR(path), PTR("/tmp/x")}},
};

static const struct attempt forbidden_on_vcpus[] = {
	{"open", SYS_open, {PTR(path), O_RDONLY | O_CLOEXEC, 0}},
	{"openat", SYS_openat, {AT_FDCWD, PTR(path), O_RDONLY | O_CLOEXEC, 0}},
	{"socket(AF_UNIX)", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0}},
	{"connect", SYS_connect, {0}},
	{"mmap", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"unlink", SYS_unlink, {PTR("/nonexistent/x")}},
	{"io_uring_setup", SYS_io_uring_setup, {0}},
	{"accept4", SYS_accept4, {0, 0, 0, SOCK_CLOEXEC}},
	{"tkill", SYS_tkill, {1, 35}},
};

static const struct attempt allowed_on_main[] = {
	{"read", SYS_read, {-1, 0, 0}},
	{"open", SYS_open, {PTR(path), O_RDONLY | O_CLOEXEC, 0}},
	{"socket(AF_UNIX)", SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0}},
	{"mmap", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"preadv", SYS_preadv, {-1, 0, 0, 0, 0}},
};

static const struct attempt allowed_on_vcpus[] = {
	{"write", SYS_write, {-1, 0, 0}},
	{"KVM_RUN", SYS_ioctl, {-1, KVM_RUN, 0}},
};

static const struct attempt other_architectures[] = {
	{"read by the x32 call table", 0x40000000 | SYS_read, {0}},
};

/* In a child: enters the filter, makes the call, ends with 0. Gives the child's exit code, or 1000 + its signal. */
static int outcome(enum seccomp_role role, const struct attempt *attempt)
{
	const struct seccomp_filters *filters;
	struct error err;
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct log_config quiet = {.level = LOG_LEVEL_OFF};

		if (log_configure(&quiet, &err) || signals_install(&err))
			_exit(1);
		filters = seccomp_load_filters(RELEASED_FILTERS, &err);
		if (!filters || seccomp_enter(filters, role, &err))
			_exit(2);
		const long *a = attempt->args;

		syscall(attempt->number, a[0], a[1], a[2], a[3], a[4], a[5]);
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define EXPECT_ALL(table, role, wanted)                                                      \
	do {                                                                                 \
		for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++) {            \
			int got = outcome(role, &(table)[i]);                                \
			if (got != (wanted))                                                 \
				fail_msg("%s: %d, wanted %d", (table)[i].name, got, wanted); \
		}                                                                            \
	} while (0)

static void test_forbidden(void **state)
{
	(void)state;
	EXPECT_ALL(forbidden_everywhere, SECCOMP_MAIN, EXIT_CODE_BAD_SYSCALL);
	EXPECT_ALL(forbidden_everywhere, SECCOMP_VCPU, EXIT_CODE_BAD_SYSCALL);
	EXPECT_ALL(forbidden_on_vcpus, SECCOMP_VCPU, EXIT_CODE_BAD_SYSCALL);
}

/* A call by another architecture's numbers does not even reach a handler. */
static void test_other_architectures(void **state)
{
	(void)state;
	EXPECT_ALL(other_architectures, SECCOMP_MAIN, 1000 + SIGSYS);
	EXPECT_ALL(other_architectures, SECCOMP_VCPU, 1000 + SIGSYS);
}

static void test_allowed(void **state)
{
	(void)state;
	EXPECT_ALL(allowed_on_main, SECCOMP_MAIN, EXIT_CODE_OK);
	EXPECT_ALL(allowed_on_vcpus, SECCOMP_VCPU, EXIT_CODE_OK);
}

/* Without a filter none of them ends the process: what the tests above see is the filter's work. */
static void test_without_filter_they_return(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(seccomp_enter(NULL, SECCOMP_MAIN, &err), 0);
	assert_int_equal(syscall(SYS_keyctl, -1), -1);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	close(fd);
}

struct file {
	struct seccomp_file_header header;
	struct seccomp_file_role main_role;
	struct sock_filter_record main_code;
	struct seccomp_file_role vcpu_role;
	struct sock_filter_record vcpu_code;
} __attribute__((packed));

static const struct file good_file = {
	.header = {SECCOMP_FILE_MAGIC, SECCOMP_FILE_VERSION, 2},
	.main_role = {"main", 1},
	.main_code = {0x06, 0, 0, 0x7fff0000},
	.vcpu_role = {"vcpu", 1},
	.vcpu_code = {0x06, 0, 0, 0x7fff0000},
};

static void expect_refused(const void *data, size_t len, const char *words)
{
	struct error err;

	assert_null(seccomp_parse_filters(data, len, &err));
	if (!strstr(err.text, words))
		fail_msg("'%s' does not say '%s'", err.text, words);
}

static void test_files(void **state)
{
	struct error err;
	struct file file = good_file;
	uint8_t longer[sizeof(file) + 1];

	(void)state;
	struct seccomp_filters *filters =
		seccomp_parse_filters((const uint8_t *)&file, sizeof(file), &err);

	assert_non_null(filters);
	seccomp_free_filters(filters);
	for (size_t len = 0; len < sizeof(file); len++)
		assert_null(seccomp_parse_filters((const uint8_t *)&file, len, &err));
	memcpy(longer, &file, sizeof(file));
	expect_refused(longer, sizeof(longer), "follow the last filter");
	file.header.magic++;
	expect_refused(&file, sizeof(file), "not a filter file");
	file = good_file;
	memcpy(file.vcpu_role.name, "api", 4);
	expect_refused(&file, sizeof(file), "Invalid thread categories: api");
	file = good_file;
	memcpy(file.vcpu_role.name, "main", 5);
	expect_refused(&file, sizeof(file), "there twice");
	file = good_file;
	memset(file.vcpu_role.name, 'x', sizeof(file.vcpu_role.name));
	expect_refused(&file, sizeof(file), "no end");
	file = good_file;
	file.main_role.count = UINT32_MAX;
	expect_refused(&file, sizeof(file), "ends inside the filter");
	file = good_file;
	file.header.count = 1;
	expect_refused(&file, offsetof(struct file, vcpu_role), "Missing thread category: vcpu");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_architectures),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_without_filter_they_return),
		cmocka_unit_test(test_files),
	};
	const struct CMUnitTest signal_tests[] = {
		cmocka_unit_test(test_forbidden),
	};
	int failed = RUN_TESTS(tests);

	/* Inside a signal handler a sanitizer makes calls of its own, which the released filters do not allow. */
	return SANITIZED ? failed : failed + RUN_TESTS(signal_tests);
}
