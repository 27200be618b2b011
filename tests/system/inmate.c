// SPDX-License-Identifier: Apache-2.0
/*
 * A prisoner: runs in the monitor's place and tries to get out. Each attempt is a word of the command line, after a
 * "NAME=VALUE" for each thing of the outside that it needs to know; it prints "<attempt> done" or "<attempt> <errno>".
 * Every attempt runs in a child where children are allowed, so that one does not change the next.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char *const *arguments;
static const char *self;

static const char *value(const char *name)
{
	size_t length = strlen(name);
	for (char *const *at = arguments; *at; at++)
		if (strncmp(*at, name, length) == 0 && (*at)[length] == '=')
			return *at + length + 1;
	fprintf(stderr, "inmate: %s=... is missing\n", name);
	exit(2);
}

static int opens(const char *path)
{
	int fd = open(path, O_RDONLY);
	return fd < 0 ? -1 : 0;
}

static int outside_path(void)
{
	return opens(value("secret"));
}

static int dotdot_path(void)
{
	char path[4096];
	snprintf(path, sizeof(path), "../../../../../../../../../../../..%s", value("secret"));
	return opens(path);
}

static int proc_root(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/root", atoi(value("outsider")));
	return opens(path);
}

static int proc_self(void)
{
	return opens("/proc/self/status");
}

/* The old way out of a chroot: a folder above the new root is reached through a directory that was not left. */
static int chroot_escape(void)
{
	mkdir("hole", 0700);
	int rc = chroot("hole");
	rmdir("hole");
	for (int i = 0; rc == 0 && i < 64; i++)
		rc = chdir("..");
	return rc || chroot(".") ? -1 : opens(value("secret"));
}

/* Inode handles know no root folder. */
static int file_handle(void)
{
	struct {
		struct file_handle head;
		unsigned char bytes[128];
	} handle = {.head = {.handle_bytes = 128}};
	int mount_id;
	if (name_to_handle_at(AT_FDCWD, ".", &handle.head, &mount_id, 0))
		return -1;
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	return open_by_handle_at(fd, &handle.head, O_RDONLY | O_DIRECTORY) < 0 ? -1 : 0;
}

static int make_block_node(void)
{
	int rc = mknod("node", S_IFBLK | 0600, makedev(7, 0));
	unlink("node");
	return rc;
}

static int make_char_node(void)
{
	int rc = mknod("node", S_IFCHR | 0600, makedev(1, 1));
	unlink("node");
	return rc;
}

static int mount_tmpfs(void)
{
	return mount("none", ".", "tmpfs", 0, NULL);
}

static int remount_root(void)
{
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL);
}

static int trace_outsider(void)
{
	return ptrace(PTRACE_SEIZE, atoi(value("outsider")), NULL, NULL) < 0 ? -1 : 0;
}

static int signal_outsider(void)
{
	return kill(atoi(value("outsider")), SIGCONT);
}

static int become_root(void)
{
	return setresuid(0, 0, 0) || setegid(0) ? -1 : 0;
}

static int become_other(void)
{
	return setresuid(4321, 4321, 4321);
}

static int set_groups(void)
{
	const gid_t group = 6;
	return setgroups(1, &group);
}

/* Any capability at all, effective. */
static int keep_capability(void)
{
	struct {
		unsigned version;
		int pid;
	} head = {.version = 0x20080522};
	unsigned data[6] = {0};
	if (syscall(SYS_capget, &head, data))
		return -1;
	if (!(data[0] | data[1] | data[3] | data[4])) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

static int leave_no_new_privs(void)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
		return 0;
	errno = EPERM;
	return -1;
}

static int change_securebits(void)
{
	return prctl(PR_SET_SECUREBITS, 0, 0, 0, 0);
}

static int user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static int mount_namespace(void)
{
	return unshare(CLONE_NEWNS);
}

/* The session keyring's serial number tells nothing; reading what is in it does. */
static int session_key(void)
{
	char text[64];
	return syscall(SYS_keyctl, KEYCTL_READ, atoi(value("key")), text, sizeof(text)) < 0 ? -1
											    : 0;
}

static int list_bpf(void)
{
	union bpf_attr attributes = {0};
	return syscall(SYS_bpf, BPF_PROG_GET_NEXT_ID, &attributes, sizeof(attributes)) &&
			       errno != ENOENT
		       ? -1
		       : 0;
}

static int watch_everybody(void)
{
	struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE,
					     .size = sizeof(attributes),
					     .config = PERF_COUNT_SW_CPU_CLOCK};
	return syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0) < 0 ? -1 : 0;
}

/* Only Ctrl-Alt-Del's meaning, the one harmless command. */
static int reboot_system(void)
{
	return reboot(RB_DISABLE_CAD);
}

static int raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 ? -1 : 0;
}

static int packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? -1 : 0;
}

static int tcp_listen(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&address, sizeof(address));
}

static int abstract_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = (size_t)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s",
					 value("abstract"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	return connect(fd, (struct sockaddr *)&address,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

/* A program of the tenant's own. */
static int execute_other(void)
{
	static char buffer[1 << 22];
	char *const words[] = {"other", "end", NULL};
	char *const environment[] = {NULL};
	int from = open(self, O_RDONLY);
	int to = open("other", O_WRONLY | O_CREAT | O_TRUNC, 0700);
	ssize_t size = read(from, buffer, sizeof(buffer));
	if (from < 0 || to < 0 || write(to, buffer, (size_t)size) != size)
		return -1;
	close(to);
	int pid = fork();
	if (pid == 0) {
		execve("other", words, environment);
		_exit(errno);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	unlink("other");
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static int overwrite_program(void)
{
	return chmod(self, 0777);
}

static int remove_program(void)
{
	return rename(self, "moved");
}

static int file_in_dev(void)
{
	const char *folder = value("dev");
	char path[4096];
	snprintf(path, sizeof(path), "%s/file", folder);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	unlink(path);
	return fd < 0 ? -1 : 0;
}

static int link_anywhere(void)
{
	int rc = symlink("/etc/passwd", "link");
	unlink("link");
	return rc;
}

static int host_name(void)
{
	return sethostname("taken", 5);
}

static int nicer(void)
{
	return setpriority(PRIO_PROCESS, 0, -5);
}

static int watch_files(void)
{
	return fanotify_init(FAN_CLASS_CONTENT, O_RDONLY) < 0 ? -1 : 0;
}

static int inherited_fd(void)
{
	return fcntl(atoi(value("fd")), F_GETFD) < 0 ? -1 : 0;
}

static int environment(void)
{
	errno = ENOENT;
	return environ && *environ ? 0 : -1;
}

static int end(void)
{
	_exit(0);
}

/* ---- limits: how far it gets; "done" when it got past the limit given ---- */

static int fork_bomb(void)
{
	int limit = atoi(value("processes")), count = 0, pid = 0;
	while (count < limit && (pid = fork()) > 0)
		count++;
	if (pid == 0 && count < limit) {
		pause();
		_exit(0);
	}
	int saved = errno;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	errno = saved;
	return count < limit ? -1 : 0;
}

static int memory_bomb(void)
{
	size_t size = (size_t)atol(value("bytes"));
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -1;
	for (size_t at = 0; at < size; at += 4096)
		memory[at] = 1;
	return 0;
}

static int big_file(void)
{
	signal(SIGXFSZ, SIG_IGN);
	int fd = open("big", O_WRONLY | O_CREAT, 0600);
	int rc = ftruncate(fd, atol(value("size")));
	unlink("big");
	return rc;
}

static int many_files(void)
{
	int limit = atoi(value("files"));
	for (int i = 0; i < limit; i++)
		if (dup(0) < 0)
			return -1;
	return 0;
}

struct attempt {
	const char *name;
	int (*act)(void);
};

static const struct attempt attempts[] = {
	{"outside_path", outside_path},
	{"dotdot_path", dotdot_path},
	{"proc_root", proc_root},
	{"proc_self", proc_self},
	{"chroot_escape", chroot_escape},
	{"file_handle", file_handle},
	{"make_block_node", make_block_node},
	{"make_char_node", make_char_node},
	{"mount_tmpfs", mount_tmpfs},
	{"remount_root", remount_root},
	{"trace_outsider", trace_outsider},
	{"signal_outsider", signal_outsider},
	{"become_root", become_root},
	{"become_other", become_other},
	{"set_groups", set_groups},
	{"keep_capability", keep_capability},
	{"leave_no_new_privs", leave_no_new_privs},
	{"change_securebits", change_securebits},
	{"user_namespace", user_namespace},
	{"mount_namespace", mount_namespace},
	{"session_key", session_key},
	{"list_bpf", list_bpf},
	{"watch_everybody", watch_everybody},
	{"reboot_system", reboot_system},
	{"raw_socket", raw_socket},
	{"packet_socket", packet_socket},
	{"tcp_listen", tcp_listen},
	{"abstract_socket", abstract_socket},
	{"execute_other", execute_other},
	{"overwrite_program", overwrite_program},
	{"remove_program", remove_program},
	{"file_in_dev", file_in_dev},
	{"link_anywhere", link_anywhere},
	{"host_name", host_name},
	{"nicer", nicer},
	{"watch_files", watch_files},
	{"inherited_fd", inherited_fd},
	{"environment", environment},
	{"end", end},
	{"fork_bomb", fork_bomb},
	{"memory_bomb", memory_bomb},
	{"big_file", big_file},
	{"many_files", many_files},
};

/* A child that ends itself (executing something, say) has done it; one that is killed has not. */
static void try_in_child(const struct attempt *attempt)
{
	fflush(stdout);
	int status, pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		_exit(attempt->act() ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		printf("%s cannot-try %s\n", attempt->name, strerrorname_np(errno));
		return;
	}
	if (WIFSIGNALED(status))
		printf("%s signal %d\n", attempt->name, WTERMSIG(status));
	else if (WEXITSTATUS(status) == 0)
		printf("%s done\n", attempt->name);
	else
		printf("%s %s\n", attempt->name, strerrorname_np(WEXITSTATUS(status)));
}

static void try_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		if (strcmp(attempts[i].name, name) == 0) {
			try_in_child(&attempts[i]);
			return;
		}
	}
}

/* A real fault: a signal from outside would not end process 1 of a namespace. */
static void crash_when_told(void)
{
	while (access("crash", F_OK))
		usleep(1000);
	__builtin_trap();
}

int main(int argc, char *argv[])
{
	(void)argc;
	self = argv[0];
	arguments = argv + 1;
	if (argc == 2 && strcmp(argv[1], "end") == 0)
		return 0;
	for (char *const *at = arguments; *at; at++) {
		if (strcmp(*at, "list") == 0)
			for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
				puts(attempts[i].name);
		else if (strcmp(*at, "wait") == 0)
			pause();
		else if (strncmp(*at, "report=", 7) == 0 && !freopen(*at + 7, "w", stdout))
			return 3;
		else if (strcmp(*at, "crash") == 0)
			crash_when_told();
		else
			try_by_name(*at);
	}
	return 0;
}
