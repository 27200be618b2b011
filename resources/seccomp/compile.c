// SPDX-License-Identifier: Apache-2.0
/*
 * bantam-seccomp: compiles system call policies (JSON) into filters, as C source for the monitor's build or as a file
 * for its --seccomp-filter. Runs at build time, with libseccomp and cJSON; nothing of it is in the monitor.
 *
 * DOC: A policy file holds one object per thread role: default_action, filter_action and a list of rules. A rule names a
 * system call and, with args, what its arguments must be: index, type (dword or qword), op (eq, ne, lt, le, gt, ge, or
 * {"masked_eq": mask}) and val. Values are numbers or names of constants, joined by "|". Rules for one call are ORed,
 * args of one rule ANDed. Several files may add rules to one role (that is how sanitizer builds say what they need).
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "vmm/seccomp_format.h"

#define POLICY_BYTES_MAX (1u << 20)

struct constant {
	const char *name;
	uint64_t value;
};

static const struct constant constants[] = {
	{"AF_UNIX", AF_UNIX},
	{"SOCK_CLOEXEC", SOCK_CLOEXEC},
	{"O_CREAT", O_CREAT},
	{"O_TRUNC", O_TRUNC},
	{"O_CLOEXEC", O_CLOEXEC},
	{"O_EXCL", O_EXCL},
	{"F_SETFD", F_SETFD},
	{"F_GETFL", F_GETFL},
	{"F_SETFL", F_SETFL},
	{"PROT_EXEC", PROT_EXEC},
	{"SIGRTMIN_MUSL", 35}, /* the first two are musl's own */
	{"SIGRTMIN_GLIBC", 34},
	{"KVM_RUN", KVM_RUN},
	{"KVM_CREATE_PIT2", KVM_CREATE_PIT2},
	{"KVM_GET_PIT2", KVM_GET_PIT2},
	{"KVM_SET_PIT2", KVM_SET_PIT2},
	{"KVM_KVMCLOCK_CTRL", KVM_KVMCLOCK_CTRL},
	{"KVM_CHECK_EXTENSION", KVM_CHECK_EXTENSION},
	{"KVM_GET_MSR_INDEX_LIST", KVM_GET_MSR_INDEX_LIST},
	{"KVM_GET_MP_STATE", KVM_GET_MP_STATE},
	{"KVM_GET_REGS", KVM_GET_REGS},
	{"KVM_GET_SREGS", KVM_GET_SREGS},
	{"KVM_GET_XCRS", KVM_GET_XCRS},
	{"KVM_GET_DEBUGREGS", KVM_GET_DEBUGREGS},
	{"KVM_GET_LAPIC", KVM_GET_LAPIC},
	{"KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS},
	{"KVM_GET_TSC_KHZ", KVM_GET_TSC_KHZ},
	{"KVM_GET_XSAVE", KVM_GET_XSAVE},
	{"KVM_GET_XSAVE2", KVM_GET_XSAVE2},
	{"KVM_GET_CPUID2", KVM_GET_CPUID2},
	{"KVM_GET_MSRS", KVM_GET_MSRS},
	{"KVM_GET_IRQCHIP", KVM_GET_IRQCHIP},
	{"KVM_GET_CLOCK", KVM_GET_CLOCK},
	{"UFFDIO_WAKE", UFFDIO_WAKE},
	{"KVM_GET_DIRTY_LOG", KVM_GET_DIRTY_LOG},
	{"TUNSETOFFLOAD", TUNSETOFFLOAD},
	{"TCSETS", TCSETS},
};

struct role {
	char name[SECCOMP_ROLE_BYTES];
	scmp_filter_ctx filter;
	struct sock_filter_record *code;
	uint32_t count;
};

static struct role roles[SECCOMP_ROLES_MAX];
static unsigned role_count;

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bantam-seccomp: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static uint64_t constant_value(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
		if (strlen(constants[i].name) == len && strncmp(constants[i].name, name, len) == 0)
			return constants[i].value;
	}
	die("unknown constant '%.*s'", (int)len, name);
}

/* A number, or names joined by "|". */
static uint64_t value_of(const cJSON *item, const char *syscall)
{
	if (cJSON_IsNumber(item) && item->valuedouble >= 0)
		return (uint64_t)item->valuedouble;
	if (!cJSON_IsString(item))
		die("%s: a value must be a number or names of constants", syscall);
	uint64_t value = 0;
	const char *at = item->valuestring;

	while (true) {
		size_t len = strcspn(at, "|");

		value |= constant_value(at, len);
		if (at[len] == '\0')
			return value;
		at += len + 1;
	}
}

static enum scmp_compare compare_of(const char *op, const char *syscall)
{
	static const struct {
		const char *name;
		enum scmp_compare compare;
	} ops[] = {
		{"eq", SCMP_CMP_EQ}, {"ne", SCMP_CMP_NE}, {"lt", SCMP_CMP_LT},
		{"le", SCMP_CMP_LE}, {"gt", SCMP_CMP_GT}, {"ge", SCMP_CMP_GE},
	};

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (strcmp(op, ops[i].name) == 0)
			return ops[i].compare;
	}
	die("%s: unknown operator '%s'", syscall, op);
}

static struct scmp_arg_cmp argument(const cJSON *arg, const char *syscall)
{
	const cJSON *index = cJSON_GetObjectItemCaseSensitive(arg, "index");
	const cJSON *type = cJSON_GetObjectItemCaseSensitive(arg, "type");
	const cJSON *op = cJSON_GetObjectItemCaseSensitive(arg, "op");
	const cJSON *val = cJSON_GetObjectItemCaseSensitive(arg, "val");

	if (!cJSON_IsNumber(index) || index->valuedouble < 0 || index->valuedouble > 5)
		die("%s: an argument's index must be 0 to 5", syscall);
	if (!cJSON_IsString(type) || !op || !val)
		die("%s: an argument needs type, op and val", syscall);
	/* A dword: what the kernel itself ignores of the register must not matter. */
	uint64_t width = strcmp(type->valuestring, "dword") == 0 ? UINT32_MAX : UINT64_MAX;
	uint64_t value = value_of(val, syscall);
	unsigned at = (unsigned)index->valuedouble;

	if (cJSON_IsObject(op)) {
		const cJSON *mask = cJSON_GetObjectItemCaseSensitive(op, "masked_eq");

		if (!mask)
			die("%s: the one operator with an operand is masked_eq", syscall);
		return (struct scmp_arg_cmp){at, SCMP_CMP_MASKED_EQ,
					     value_of(mask, syscall) & width, value};
	}
	if (!cJSON_IsString(op))
		die("%s: op must be a string or an object", syscall);
	enum scmp_compare compare = compare_of(op->valuestring, syscall);

	if (compare == SCMP_CMP_EQ && width == UINT32_MAX)
		return (struct scmp_arg_cmp){at, SCMP_CMP_MASKED_EQ, width, value};
	return (struct scmp_arg_cmp){at, compare, value, 0};
}

static uint32_t action_of(const cJSON *role, const char *key, const char *name)
{
	const cJSON *action = cJSON_GetObjectItemCaseSensitive(role, key);
	const char *text = cJSON_IsString(action) ? action->valuestring : "";

	if (strcmp(text, "allow") == 0)
		return SCMP_ACT_ALLOW;
	if (strcmp(text, "trap") == 0)
		return SCMP_ACT_TRAP;
	if (strcmp(text, "kill_process") == 0)
		return SCMP_ACT_KILL_PROCESS;
	if (strcmp(text, "kill_thread") == 0)
		return SCMP_ACT_KILL_THREAD;
	if (strcmp(text, "log") == 0)
		return SCMP_ACT_LOG;
	die("%s: %s must be allow, trap, kill_process, kill_thread or log", name, key);
}

static void add_rule(scmp_filter_ctx filter, uint32_t action, const cJSON *rule)
{
	const cJSON *syscall = cJSON_GetObjectItemCaseSensitive(rule, "syscall");
	const cJSON *args = cJSON_GetObjectItemCaseSensitive(rule, "args"), *arg;
	struct scmp_arg_cmp compares[6];
	unsigned count = 0;

	if (!cJSON_IsString(syscall))
		die("a rule has no syscall");
	int number = seccomp_syscall_resolve_name(syscall->valuestring);

	if (number == __NR_SCMP_ERROR)
		die("'%s' is no system call", syscall->valuestring);
	cJSON_ArrayForEach(arg, args)
	{
		if (count == 6)
			die("%s: more than 6 arguments", syscall->valuestring);
		compares[count++] = argument(arg, syscall->valuestring);
	}
	int ret = seccomp_rule_add_array(filter, action, number, count, compares);

	if (ret)
		die("%s: %s", syscall->valuestring, strerror(-ret));
}

static struct role *role_of(const cJSON *item)
{
	const char *name = item->string;
	uint32_t action = action_of(item, "default_action", name);

	for (unsigned i = 0; i < role_count; i++) {
		if (strcmp(roles[i].name, name) == 0)
			return &roles[i];
	}
	if (role_count == SECCOMP_ROLES_MAX || strlen(name) >= SECCOMP_ROLE_BYTES)
		die("too many roles, or '%s' is too long a name", name);
	struct role *role = &roles[role_count++];

	memcpy(role->name, name, strlen(name) + 1);
	role->filter = seccomp_init(action);
	if (!role->filter)
		die("libseccomp cannot start a filter");
	/* A tree instead of a list: the price of a call no longer depends on its place in the file. */
	if (seccomp_attr_set(role->filter, SCMP_FLTATR_CTL_OPTIMIZE, 2))
		die("libseccomp cannot make a binary tree");
	return role;
}

static void read_policy(const char *path)
{
	static char text[POLICY_BYTES_MAX];
	FILE *file = fopen(path, "re");
	const cJSON *item, *rule;

	if (!file)
		die("%s: %s", path, strerror(errno));
	size_t len = fread(text, 1, sizeof(text) - 1, file);

	fclose(file);
	text[len] = '\0';
	cJSON *policy = cJSON_Parse(text);

	if (!cJSON_IsObject(policy))
		die("%s: not a JSON object", path);
	cJSON_ArrayForEach(item, policy)
	{
		struct role *role = role_of(item);
		uint32_t action = action_of(item, "filter_action", item->string);

		cJSON_ArrayForEach(rule, cJSON_GetObjectItemCaseSensitive(item, "filter"))
			add_rule(role->filter, action, rule);
	}
	cJSON_Delete(policy);
}

static void export_role(struct role *role)
{
	int fd = memfd_create(role->name, MFD_CLOEXEC);

	if (fd < 0 || seccomp_export_bpf(role->filter, fd))
		die("%s: the filter cannot be exported", role->name);
	off_t len = lseek(fd, 0, SEEK_END);

	if (len <= 0 || (size_t)len % sizeof(role->code[0]) != 0 ||
	    (size_t)len / sizeof(role->code[0]) > SECCOMP_CODE_MAX)
		die("%s: the filter has more than %u instructions", role->name, SECCOMP_CODE_MAX);
	role->code = malloc((size_t)len);
	if (!role->code || pread(fd, role->code, (size_t)len, 0) != len)
		die("%s: the filter cannot be read back", role->name);
	role->count = (uint32_t)((size_t)len / sizeof(role->code[0]));
	close(fd);
}

/* So that the monitor can name a forbidden call: the names by number, one string of strings; no name is empty. */
static void write_names(FILE *out)
{
	int last = 0;

	fputs("const char seccomp_call_names[] =", out);
	for (int number = 0; number < SECCOMP_CALLS_MAX; number++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

		fprintf(out, "\n\t\"%s\\0\"", name ? name : "");
		last = name ? number : last;
		free(name);
	}
	fprintf(out, ";\n\nconst int seccomp_call_count = %d;\n\n", last + 1);
}

static void write_source(FILE *out)
{
	fputs("// SPDX-License-Identifier: Apache-2.0\n/* Made by bantam-seccomp from "
	      "resources/seccomp/. */\n"
	      "#include \"vmm/seccomp_format.h\"\n\n",
	      out);
	for (unsigned i = 0; i < role_count; i++) {
		fprintf(out, "static const struct sock_filter_record code_%s[] = {\n",
			roles[i].name);
		for (uint32_t j = 0; j < roles[i].count; j++)
			fprintf(out, "\t{0x%04x, %u, %u, 0x%08x},\n", roles[i].code[j].code,
				roles[i].code[j].jump_true, roles[i].code[j].jump_false,
				roles[i].code[j].operand);
		fputs("};\n\n", out);
	}
	write_names(out);
	fputs("const struct seccomp_program seccomp_built_in[] = {\n", out);
	for (unsigned i = 0; i < role_count; i++)
		fprintf(out, "\t{\"%s\", %u, code_%s},\n", roles[i].name, roles[i].count,
			roles[i].name);
	fprintf(out, "};\n\nconst unsigned seccomp_built_in_count = %u;\n", role_count);
}

static void write_binary(FILE *out)
{
	struct seccomp_file_header header = {.magic = SECCOMP_FILE_MAGIC,
					     .version = SECCOMP_FILE_VERSION,
					     .count = role_count};

	fwrite(&header, sizeof(header), 1, out);
	for (unsigned i = 0; i < role_count; i++) {
		struct seccomp_file_role role = {.count = roles[i].count};

		memcpy(role.name, roles[i].name, sizeof(role.name));
		fwrite(&role, sizeof(role), 1, out);
		fwrite(roles[i].code, sizeof(roles[i].code[0]), roles[i].count, out);
	}
}

static void usage(void)
{
	puts("usage: bantam-seccomp [--c-source] [-o FILE] POLICY.json...\n"
	     "Compiles system call policies into filters for `bantam-vmm --seccomp-filter FILE`.\n"
	     "  -o FILE     where to write (default: standard output)\n"
	     "  --c-source  C source instead, for the monitor's own build\n"
	     "A role (main, vcpu) that stands in several files gets the rules of all of them.");
}

int main(int argc, char *argv[])
{
	bool source = false;
	const char *path = NULL;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--c-source") == 0) {
			source = true;
		} else if (strcmp(argv[i], "-o") == 0 && i + 1 < argc) {
			path = argv[++i];
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage();
			return 0;
		} else {
			read_policy(argv[i]);
		}
	}
	if (role_count == 0)
		die("no policy given; try --help");
	for (unsigned i = 0; i < role_count; i++)
		export_role(&roles[i]);
	FILE *out = path ? fopen(path, "we") : stdout;

	if (!out)
		die("%s: %s", path, strerror(errno));
	if (source)
		write_source(out);
	else
		write_binary(out);
	if (fclose(out))
		die("%s: %s", path ? path : "standard output", strerror(errno));
	return 0;
}
