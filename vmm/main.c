// SPDX-License-Identifier: Apache-2.0
/* bantam-vmm: one process, one microVM. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "api/config_file.h"
#include "api/server.h"
#include "snapshots/state.h"
#include "vmm/core/log.h"
#include "vmm/core/loop.h"
#include "vmm/core/metrics_groups.h"
#include "vmm/core/version.h"
#include "vmm/devices/console.h"
#include "vmm/options.h"
#include "vmm/seccomp.h"
#include "vmm/signals.h"
#include "vmm/vm.h"

/* The kernel grows a descriptor table by copying, and waits for readers when threads share it: once, before them. */
#define FD_TABLE_SLOTS 2048u
/* From the first look at the API socket on; a client that is there already gets its first answer before. */
#define IDLE_NS UINT64_C(1000000)

struct monitor {
	struct options options;
	struct loop *loop;
	struct vm *vm;
	struct api_server *api; /* NULL with --no-api */
	int signal_fd;          /* SIGTERM and SIGINT */
	struct loop_source *signal_source;
	struct loop_source *idle_timer; /* NULL: nothing is made ahead */
	int exit_code;
	_Atomic bool ending; /* the loop has stopped, and the end may wait for a vCPU */
};

static const struct metrics_class *const device_classes[] = {
	&block_metrics_class,
	&net_metrics_class,
	&vsock_metrics_class,
	&rng_metrics_class,
};

static void stop(void *ctx, int exit_code)
{
	struct monitor *monitor = ctx;

	monitor->exit_code = exit_code;
	loop_stop(monitor->loop);
}

static void on_signal(void *ctx, unsigned events)
{
	struct monitor *monitor = ctx;
	struct signalfd_siginfo info;

	(void)events;
	if (read(monitor->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	log_info("Shutting down after signal %u (%s).", info.ssi_signo,
		 strsignal((int)info.ssi_signo));
	stop(monitor, EXIT_CODE_OK);
}

static void grow_fd_table(void)
{
	struct rlimit limit;
	rlim_t slots = FD_TABLE_SLOTS;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < slots)
		slots = limit.rlim_cur;
	int fd = dup2(STDERR_FILENO, (int)slots - 1);

	close_fd(fd); /* where it fails, the table grows later, at a cost in time only */
}

/* SIGTERM and SIGINT become events; blocked before any thread exists, so that every thread inherits it. */
static int watch_signals(struct monitor *monitor, struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_set_errno(err, "cannot block signals");
	monitor->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (monitor->signal_fd < 0)
		return error_set_errno(err, "cannot make a signalfd");
	monitor->signal_source =
		loop_add_fd(monitor->loop, monitor->signal_fd, LOOP_READ, on_signal, monitor);
	return monitor->signal_source ? 0 : error_set_os(err, -ENOMEM, "no signal source");
}

static int configure_log(const struct options *options, struct error *err)
{
	union {
		const char *in;
		char *out;
	} path = {options->log_path}, module = {options->module};
	struct log_config config = {
		.log_path = path.out,
		.level = LOG_LEVEL_INFO,
		.show_level = options->show_level,
		.show_log_origin = options->show_log_origin,
		.module = module.out,
	};

	log_set_id(options->id);
	if (options->level && !log_level_parse(options->level, &config.level))
		return error_set(
			err, -EINVAL,
			"'%s' is no log level: expected Error, Warning, Info, Debug, Trace or Off",
			options->level);
	return log_configure(&config, err);
}

/* Every group appears in the metrics from the first line on, device or not. */
static int open_metrics(const struct options *options, struct error *err)
{
	int ret = metrics_register_groups();

	for (size_t i = 0; i < sizeof(device_classes) / sizeof(device_classes[0]) && !ret; i++)
		ret = metrics_announce(device_classes[i]);
	if (ret)
		return error_set_os(err, ret, "cannot set up metrics");
	return options->metrics_path ? metrics_open(options->metrics_path, err) : 0;
}

static uint64_t clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* What the jailer passed on: how long it took from its own start to here, in wall and processor time. */
static void store_startup_times(const struct options *options)
{
	if (options->has_start_time_us)
		metric_store(&process_metrics.api_server.process_startup_time_us,
			     clock_us(CLOCK_MONOTONIC) - options->start_time_us);
	if (options->has_start_time_cpu_us)
		metric_store(&process_metrics.api_server.process_startup_time_cpu_us,
			     clock_us(CLOCK_PROCESS_CPUTIME_ID) - options->start_time_cpu_us +
				     options->parent_cpu_time_us);
}

/* What the command line may ask for and is not there, where going on without it does no harm. */
static void note_unbuilt(const struct options *options)
{
	if (options->enable_pci)
		log_warn("--enable-pci: there is no PCI; devices are attached by virtio-mmio.");
}

/* The filters that threads enter when a machine starts; *filters stays NULL with --no-seccomp. */
static int choose_filters(const struct options *options, const struct seccomp_filters **filters,
			  struct error *err)
{
	*filters = NULL;
	if (options->no_seccomp)
		return 0;
	*filters = options->seccomp_filter ? seccomp_load_filters(options->seccomp_filter, err)
					   : seccomp_built_in_filters(err);
	return *filters ? 0 : err->code;
}

static void report_end(const struct monitor *monitor)
{
	console_restore_terminal();
	metrics_close();
	if (monitor->exit_code == EXIT_CODE_OK)
		log_info("Bantam exiting successfully. exit_code=0");
	else
		log_error("Bantam exiting with error. exit_code=%d", monitor->exit_code);
}

static void end_process(const struct monitor *monitor) __attribute__((noreturn));
static void end_process(const struct monitor *monitor)
{
	report_end(monitor);
	_exit(monitor->exit_code);
}

static void flush_metrics(void)
{
	struct error err;

	if (metrics_flush(&err))
		log_error("%s", err.text);
}

/*
 * Serves the API and ends the process, instead of a loop whose thread waits for ever. What that thread may be in the midst
 * of is left alone: sockets and devices end with the process. Returns only where it cannot serve.
 */
static void stand_in(void *ctx, struct loop *own_loop)
{
	struct monitor *monitor = ctx;

	if (atomic_load(&monitor->ending))
		end_process(monitor);
	struct api_server *api = monitor->api ? api_server_take_over(monitor->api, own_loop) : NULL;
	struct loop_source *signals =
		loop_add_fd(own_loop, monitor->signal_fd, LOOP_READ, on_signal, monitor);

	if (!signals || (monitor->api && !api))
		return;
	monitor->loop = own_loop;
	(void)loop_run(own_loop);
	flush_metrics();
	api_server_free(api);
	end_process(monitor);
}

static int make_monitor(struct monitor *monitor, struct error *err)
{
	const struct seccomp_filters *filters;
	int ret = choose_filters(&monitor->options, &filters, err);

	if (ret)
		return ret;
	struct vm_options vm_options = {
		.id = monitor->options.id,
		.boot_timer = monitor->options.boot_timer,
		.filters = filters,
		.on_exit = stop,
		.on_exit_ctx = monitor,
		.on_frozen = stand_in,
		.on_frozen_ctx = monitor,
	};

	monitor->loop = loop_new();
	if (!monitor->loop)
		return error_set_errno(err, "cannot make an event loop");
	monitor->vm = vm_new(monitor->loop, &vm_options);
	if (!monitor->vm)
		return error_set_os(err, -ENOMEM, "cannot make a microVM");
	return watch_signals(monitor, err);
}

static int apply_files(struct monitor *monitor, struct error *err)
{
	const struct options *options = &monitor->options;
	int ret = 0;

	if (options->metadata)
		ret = metadata_file_check(options->metadata, options->mmds_size_limit, err);
	if (!ret && options->metadata)
		log_warn("The metadata in %s is valid, but no metadata service is built yet.",
			 options->metadata);
	if (ret || !options->config_file)
		return ret;
	ret = config_file_apply(monitor->vm, options->config_file, err);
	if (ret)
		return error_prefix(err, "Configuration for VMM from one single json failed: ");
	ret = vm_start(monitor->vm, err);
	if (ret)
		return error_prefix(err, "Could not Start MicroVM from one single json: ");
	log_info("Successfully started microvm that was configured from one single json");
	return 0;
}

static int prepare(struct monitor *monitor, struct error *err)
{
	int ret = monitor->options.prepare_vcpus
			  ? vm_prepare(monitor->vm, (unsigned)monitor->options.prepare_vcpus, err)
			  : 0;

	return ret ? error_prefix(err, "Cannot prepare a KVM machine: ") : 0;
}

static int serve_api(struct monitor *monitor, struct error *err)
{
	struct api_server_options options = {
		.socket_path = monitor->options.api_sock,
		.payload_limit = monitor->options.http_api_max_payload_size,
	};

	if (monitor->options.no_api)
		return 0;
	monitor->api = api_server_new(monitor->loop, monitor->vm, &options, err);
	return monitor->api ? 0 : err->code;
}

static void on_idle(void *ctx)
{
	struct monitor *monitor = ctx;

	if (vm_state(monitor->vm) == VM_NOT_STARTED)
		vm_begin_ahead(monitor->vm);
}

/* Who waits for requests has time; who starts at once has none. Without a timer there is nothing ahead, and no harm. */
static void use_the_time(struct monitor *monitor)
{
	if (!monitor->api || vm_state(monitor->vm) != VM_NOT_STARTED)
		return;
	monitor->idle_timer = loop_add_timer(monitor->loop, on_idle, monitor);
	if (monitor->idle_timer)
		loop_timer_arm(monitor->idle_timer, IDLE_NS);
}

/* From the command line to the end of the microVM. 0, or -errno with a text; monitor->exit_code says how it ended. */
static int run(struct monitor *monitor, struct error *err)
{
	int ret = configure_log(&monitor->options, err);

	if (ret) {
		monitor->exit_code = EXIT_CODE_BAD_CONFIGURATION;
		return ret;
	}
	log_info("Running Bantam v%s", BANTAM_VERSION);
	note_unbuilt(&monitor->options);
	ret = open_metrics(&monitor->options, err);
	if (!ret)
		ret = signals_install(err);
	if (ret)
		return ret;
	store_startup_times(&monitor->options);
	grow_fd_table();
	ret = make_monitor(monitor, err);
	if (!ret)
		ret = serve_api(monitor, err);
	if (!ret)
		ret = prepare(monitor, err);
	if (!ret)
		ret = apply_files(monitor, err);
	if (ret)
		return ret;
	use_the_time(monitor);
	monitor->exit_code = EXIT_CODE_OK;
	ret = loop_run(monitor->loop);
	while (vm_is_frozen(monitor->vm))
		(void)poll(NULL, 0, -1); /* the process is the stand-in's */
	return ret ? error_set_os(err, ret, "the event loop failed") : 0;
}

static void tear_down(struct monitor *monitor)
{
	log_info("Vmm is stopping.");
	api_server_free(monitor->api);
	vm_free(monitor->vm);
	loop_source_free(monitor->idle_timer);
	loop_source_free(monitor->signal_source);
	close_fd(monitor->signal_fd);
	loop_free(monitor->loop);
}

/* The microVM's devices are counted into the last line of metrics, so it is written before they are gone. */
static void finish(struct monitor *monitor)
{
	atomic_store(&monitor->ending, true);
	flush_metrics();
	tear_down(monitor);
	report_end(monitor);
}

/* The line by which engines know what can load a state file; the file is checked as a load would check it. */
static int describe_snapshot(const char *path)
{
	struct state_file file;
	struct error err;
	int ret = state_file_read(&file, path, &err);

	if (ret)
		fprintf(stderr, "Error: %s\n", err.text);
	else
		printf("v%u.%u.%u\n", file.major, file.minor, file.patch);
	state_file_free(&file);
	return ret ? EXIT_CODE_GENERIC : EXIT_CODE_OK;
}

int main(int argc, char *argv[])
{
	struct monitor monitor = {.signal_fd = -1, .exit_code = EXIT_CODE_GENERIC};
	struct error err = {.code = 0};

	if (options_parse(argc, argv, &monitor.options, &err)) {
		fprintf(stderr,
			"Arguments parsing error: %s \n\nFor more information try --help.\n",
			err.text);
		return EXIT_CODE_ARGUMENTS;
	}
	if (monitor.options.help) {
		options_print_help(argv[0]);
		return EXIT_CODE_OK;
	}
	if (monitor.options.version) {
		printf("Bantam v%s\n", BANTAM_VERSION);
		return EXIT_CODE_OK;
	}
	if (monitor.options.snapshot_version) {
		printf("v%u.%u.%u\n", STATE_MAJOR, STATE_MINOR, STATE_PATCH);
		return EXIT_CODE_OK;
	}
	if (monitor.options.describe_snapshot)
		return describe_snapshot(monitor.options.describe_snapshot);
	int ret = run(&monitor, &err);

	if (ret) {
		log_error("%s", err.text);
		fprintf(stderr, "Error: %s\n", err.text);
	}
	finish(&monitor);
	return monitor.exit_code;
}
