// SPDX-License-Identifier: Apache-2.0
/*
 * Process 1 of the test host: makes the machine's file system its own, runs one command, hands back what it said.
 *
 * DOC: the stages
 *
 *  1. In the initramfs: load the modules that /modules/order names, then mount what QEMU shares over 9p: "host" (the whole
 *     machine, read-only), "ctl" (the request, later the status) and "out" (the caller's folder for results).
 *  2. A tmpfs over the machine's file system (overlayfs) becomes the new root by moving the mount to "/" and entering it.
 *     A plain chroot would not do: the kernel refuses user namespaces in one, and its own modprobe would look in the initramfs.
 *  3. Open /dev/kvm, make VMs and keep them for ever. When the last VM goes away kvm-amd switches SVM off on every CPU,
 *     which hangs under QEMU's emulation with more than one CPU. And some kinds of VM switch static branches in KVM's code
 *     when the first comes or the last goes: the kernel patches running code by way of a breakpoint, and QEMU before 8.1 can
 *     keep a translation of that breakpoint (it reads code before it locks the page), on which the kernel later stops with
 *     an unexpected int3. Having one VM of each kind, these branches are switched once, before anything runs.
 *  4. Run the command with pipes as its output. Pipes, not the serial ports themselves: a port can be opened once only,
 *     and programs reopen /dev/stderr. Process 1 copies from the pipes to the ports, and reaps orphans.
 *  5. When the command has ended, kill all that it left behind, copy the rest, write the status file, and leave through
 *     QEMU's debug-exit port. A missing status file tells the caller that the test host itself died.
 *
 * The request is a file of NUL-terminated strings: working directory, module folder, number of variables, the variables,
 * number of arguments, the arguments. It comes from the caller's own tests/host/run and is trusted.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHARE_DIR       "/run/testhost" /* where ctl and out are seen by the command */
#define PORTS_DIR       "/sys/class/virtio-ports"
#define DEBUG_EXIT_PORT 0xf4 /* isa-debug-exit of tests/host/run */
#define BEAT_S          5    /* a sign of life in ctl/alive, in seconds */
#define NOT_EXECUTABLE  126  /* as shells say it */
#define NOT_FOUND       127

struct request {
	char *working_dir;
	char *module_dir; /* empty: the kernel has all built in */
	char **environment;
	char **arguments;
};

/* One direction of output: what the command writes to the pipe goes to the port. */
struct relay {
	int pipe_fd; /* -1 after end of file */
	int port_fd;
};

static void leave(void) __attribute__((noreturn));

static void leave(void)
{
	sync();
	if (iopl(3) == 0)
		outb(0, DEBUG_EXIT_PORT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void give_up(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Without a status file: the caller reports the console's last lines and tries once more. */
static void give_up(const char *format, ...)
{
	int saved_errno = errno;
	va_list args;

	fputs("testhost: ", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(": %s\n", strerror(saved_errno));
	fflush(stdout);
	leave();
}

static void mount_at(const char *source, const char *target, const char *type, unsigned long flags,
		     const char *options)
{
	if (mkdir(target, 0755) != 0 && errno != EEXIST && errno != EROFS)
		give_up("mkdir %s", target);
	if (mount(source, target, type, flags, options) != 0)
		give_up("mount %s on %s", type ? type : source, target);
}

static void load_modules(void)
{
	FILE *order = fopen("/modules/order", "re");
	char path[512];

	if (!order)
		return; /* a kernel with everything built in has none */
	while (fgets(path, sizeof(path), order)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
			give_up("module %s", path);
		close(fd);
	}
	fclose(order);
}

static void mount_root(void)
{
	const char *shared = "trans=virtio,version=9p2000.L,msize=512000,access=any,cache=";
	char options[128];

	mount_at("proc", "/proc", "proc", 0, NULL);
	snprintf(options, sizeof(options), "%sloose", shared);
	mount_at("host", "/host", "9p", MS_RDONLY, options);
	mount_at("rw", "/rw", "tmpfs", 0, "size=75%,mode=755");
	if (mkdir("/rw/upper", 0755) != 0 || mkdir("/rw/work", 0755) != 0)
		give_up("mkdir in /rw");
	mount_at("overlay", "/new", "overlay", 0,
		 "lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work");
	mount_at("run", "/new/run", "tmpfs", 0, "mode=755");
	if (mkdir("/new" SHARE_DIR, 0755) != 0)
		give_up("mkdir " SHARE_DIR);
	snprintf(options, sizeof(options), "%snone", shared);
	mount_at("ctl", "/new" SHARE_DIR "/ctl", "9p", 0, options);
	mount_at("out", "/new" SHARE_DIR "/out", "9p", 0, options);
}

static void enter_root(void)
{
	if (mount("/dev", "/new/dev", NULL, MS_MOVE, NULL) != 0 ||
	    mount("/proc", "/new/proc", NULL, MS_MOVE, NULL) != 0)
		give_up("move /dev and /proc");
	if (chdir("/new") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 ||
	    chdir("/") != 0)
		give_up("enter the new root");
	mount_at("sys", "/sys", "sysfs", 0, NULL);
	mount_at("pts", "/dev/pts", "devpts", 0, "ptmxmode=666,mode=620,gid=5");
	mount_at("shm", "/dev/shm", "tmpfs", 0, "mode=1777");
	mount_at("cgroup", "/sys/fs/cgroup", "cgroup2", 0, NULL);
}

/* Nodes of modules that load when their node is opened first, and the names that shells expect. */
static void make_nodes(void)
{
	static const struct {
		const char *path;
		unsigned int minor;
	} misc[] = {
		{"/dev/net/tun", 200},   {"/dev/fuse", 229},        {"/dev/loop-control", 237},
		{"/dev/vhost-net", 238}, {"/dev/vhost-vsock", 241},
	};

	umask(0);
	mkdir("/dev/net", 0755);
	for (size_t i = 0; i < sizeof(misc) / sizeof(misc[0]); i++)
		if (mknod(misc[i].path, S_IFCHR | 0666, makedev(10, misc[i].minor)) != 0 &&
		    errno != EEXIST)
			give_up("mknod %s", misc[i].path);
	umask(022);
	if ((symlink("/proc/self/fd", "/dev/fd") != 0 ||
	     symlink("/proc/self/fd/0", "/dev/stdin") != 0 ||
	     symlink("/proc/self/fd/1", "/dev/stdout") != 0 ||
	     symlink("/proc/self/fd/2", "/dev/stderr") != 0) &&
	    errno != EEXIST)
		give_up("links in /dev");
}

static void bring_up_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		give_up("loopback");
	close(fd);
}

/* One VM with one processor, both never closed. */
static int hold_vm(int kvm, int with_interrupt_controller)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu;

	if (vm < 0 || (with_interrupt_controller && ioctl(vm, KVM_CREATE_IRQCHIP, 0) != 0))
		give_up("a VM of /dev/kvm");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		give_up("a processor of a VM");
	return vcpu;
}

/*
 * Keeps kvm-amd switched on, and every static branch of KVM's that depends on the VMs there are: an APIC disabled by software
 * (as after reset) or by its base register, and a processor without APIC. See stage 3 at the file's head.
 */
static void hold_vms(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vcpu;
	struct kvm_sregs registers;

	if (kvm < 0)
		give_up("/dev/kvm");
	hold_vm(kvm, 0);
	hold_vm(kvm, 1);
	vcpu = hold_vm(kvm, 1);
	if (ioctl(vcpu, KVM_GET_SREGS, &registers) != 0)
		give_up("registers of a VM");
	registers.apic_base = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &registers) != 0)
		give_up("an APIC switched off");
}

static char **take_strings(char **at, const char *end)
{
	unsigned long count = strtoul(*at, NULL, 10);
	char **list = calloc(count + 1, sizeof(*list));

	if (!list)
		give_up("memory for the request");
	for (unsigned long i = 0; i < count; i++) {
		*at += strlen(*at) + 1;
		if (*at >= end)
			give_up("request cut off");
		list[i] = *at;
	}
	*at += strlen(*at) + 1;
	return list;
}

static void read_request(struct request *request)
{
	static const size_t limit =
		8 << 20; /* the kernel's own limit for arguments and variables is lower */
	char *text = calloc(1, limit + 1), *at = text;
	int fd = open(SHARE_DIR "/ctl/request", O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (!text || fd < 0)
		give_up("request");
	while ((got = read(fd, text + length, limit - length)) > 0)
		length += (size_t)got;
	close(fd);
	request->working_dir = at;
	at += strlen(at) + 1;
	request->module_dir = at;
	at += strlen(at) + 1;
	request->environment = take_strings(&at, text + length);
	request->arguments = take_strings(&at, text + length);
	if (got < 0 || !request->arguments[0])
		give_up("request unreadable");
}

static void link_modules(const struct request *request)
{
	char link[256];

	if (!request->module_dir[0])
		return;
	snprintf(link, sizeof(link), "/usr/lib/modules/%s", strrchr(request->module_dir, '/') + 1);
	mkdir("/usr/lib/modules", 0755);
	if (symlink(request->module_dir, link) != 0 && errno != EEXIST)
		give_up("%s", link);
}

static void run_command(const struct request *request, int stdout_fd, int stderr_fd)
{
	int null_fd = open("/dev/null", O_RDWR);

	setsid();
	dup2(null_fd, 0);
	dup2(stdout_fd, 1);
	dup2(stderr_fd, 2);
	close(null_fd);
	if (chdir(request->working_dir) != 0) {
		fprintf(stderr, "testhost: %s: %s\n", request->working_dir, strerror(errno));
		_exit(NOT_EXECUTABLE);
	}
	environ = request->environment;
	execvp(request->arguments[0], request->arguments);
	fprintf(stderr, "testhost: %s: %s\n", request->arguments[0], strerror(errno));
	_exit(errno == ENOENT ? NOT_FOUND : NOT_EXECUTABLE);
}

static void relay_some(struct relay *relay)
{
	static char buffer[65536];
	ssize_t got = read(relay->pipe_fd, buffer, sizeof(buffer));

	if (got < 0 && errno == EINTR)
		return;
	if (got <= 0) {
		close(relay->pipe_fd);
		relay->pipe_fd = -1;
		return;
	}
	for (ssize_t done = 0; done < got;) {
		ssize_t put = write(relay->port_fd, buffer + done, (size_t)(got - done));

		if (put < 0 && errno != EINTR)
			give_up("output port");
		if (put > 0)
			done += put;
	}
}

/* Reaps all that ended. True when the command is among them, with its status. */
static int reap(pid_t command, int *status)
{
	int ended = 0, one;
	pid_t pid;

	while ((pid = waitpid(-1, &one, WNOHANG)) > 0) {
		if (pid != command)
			continue;
		*status = one;
		ended = 1;
	}
	return ended;
}

static void write_number(const char *path, int value)
{
	FILE *file = fopen(path, "we");

	if (!file || fprintf(file, "%d\n", value) < 0 || fclose(file) != 0)
		give_up("%s", path);
}

static int relay_until_end(pid_t command, int child_fd, struct relay relays[2])
{
	struct signalfd_siginfo info;
	time_t beat = 0;
	int status = 0;

	while (relays[0].pipe_fd >= 0 || relays[1].pipe_fd >= 0 || child_fd >= 0) {
		struct pollfd events[3] = {{.fd = relays[0].pipe_fd, .events = POLLIN},
					   {.fd = relays[1].pipe_fd, .events = POLLIN},
					   {.fd = child_fd, .events = POLLIN}};

		if (time(NULL) - beat >= BEAT_S) {
			beat = time(NULL);
			write_number(SHARE_DIR "/ctl/alive", (int)beat);
		}
		if (poll(events, 3, BEAT_S * 1000) < 0 && errno != EINTR)
			give_up("poll");
		for (int i = 0; i < 2; i++)
			if (events[i].revents)
				relay_some(&relays[i]);
		if (events[2].revents && read(child_fd, &info, sizeof(info)) > 0 &&
		    reap(command, &status)) {
			/* what it left running would keep the pipes open */
			kill(-1, SIGKILL);
			child_fd = -1;
		}
	}
	return status;
}

static int port_has_name(const char *port, const char *name)
{
	char path[320], found[32] = "";
	FILE *file;

	snprintf(path, sizeof(path), PORTS_DIR "/%s/name", port);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (!fgets(found, sizeof(found), file))
		found[0] = '\0';
	fclose(file);
	found[strcspn(found, "\n")] = '\0';
	return strcmp(found, name) == 0;
}

/* The kernel's names of ports depend on all other virtio devices, and come a moment after the driver. */
static int open_port(const char *name)
{
	char path[320];

	for (int attempt = 0; attempt < 1000; attempt++, usleep(10000)) {
		DIR *ports = opendir(PORTS_DIR);
		struct dirent *port = NULL;

		while (ports && (port = readdir(ports)) && !port_has_name(port->d_name, name))
			;
		if (port)
			snprintf(path, sizeof(path), "/dev/%s", port->d_name);
		if (ports)
			closedir(ports);
		if (port)
			return open(path, O_WRONLY | O_CLOEXEC);
	}
	return -1;
}

static struct relay open_relay(const char *name, int *write_end)
{
	int ends[2];
	struct relay relay = {.port_fd = open_port(name)};

	if (relay.port_fd < 0 || pipe2(ends, O_CLOEXEC) != 0)
		give_up("port %s", name);
	relay.pipe_fd = ends[0];
	*write_end = ends[1];
	return relay;
}

static int run_request(const struct request *request)
{
	int stdout_fd, stderr_fd, child_fd, status;
	sigset_t child, none;
	struct relay relays[2];
	pid_t command;

	/* One port for both when the caller has one file for both, so that their order is kept. */
	relays[0] = open_relay("stdout", &stdout_fd);
	if (access(SHARE_DIR "/ctl/one-output", F_OK) == 0) {
		relays[1] = (struct relay){.pipe_fd = -1, .port_fd = -1};
		stderr_fd = dup(stdout_fd);
	} else {
		relays[1] = open_relay("stderr", &stderr_fd);
	}
	sigemptyset(&none);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	child_fd = signalfd(-1, &child, SFD_CLOEXEC);
	command = fork();
	if (command == 0) {
		sigprocmask(SIG_SETMASK, &none, NULL);
		run_command(request, stdout_fd, stderr_fd);
	}
	if (command < 0 || child_fd < 0)
		give_up("fork");
	close(stdout_fd);
	close(stderr_fd);
	status = relay_until_end(command, child_fd, relays);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
	struct rlimit files = {.rlim_cur = 65536, .rlim_max = 1048576};
	struct request request;
	int status;

	/* The kernel mounts no devtmpfs in an initramfs, and opened /dev/console for us. */
	mount_at("dev", "/dev", "devtmpfs", 0, "mode=755");
	load_modules();
	mount_root();
	enter_root();
	make_nodes();
	bring_up_loopback();
	sethostname("testhost", strlen("testhost"));
	setrlimit(RLIMIT_NOFILE, &files);
	read_request(&request);
	link_modules(&request);
	hold_vms();
	status = run_request(&request);
	write_number(SHARE_DIR "/ctl/status.new", status);
	if (rename(SHARE_DIR "/ctl/status.new", SHARE_DIR "/ctl/status") != 0)
		give_up("status");
	leave();
}
