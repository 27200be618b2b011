// SPDX-License-Identifier: Apache-2.0
/*
 * tap.c against the kernel's taps, in a network namespace of the test's own. Where none can be made the tests are
 * reported as skipped.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "tests/unit/unit.h"
#include "virtio/net_internal.h"
#include "virtio/tap.h"

static bool has_taps;

static void need_taps(void)
{
	if (!has_taps)
		skip();
}

static void a_tap_is_opened_with_the_header_that_virtio_has(void **state)
{
	struct error err = {0};
	struct ifreq request = {0};
	int header_bytes = 0;

	(void)state;
	need_taps();
	int fd = tap_open("bantam0", &err);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, TUNGETIFF, &request), 0);
	assert_string_equal(request.ifr_name, "bantam0");
	assert_int_equal(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE),
			 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(ioctl(fd, TUNGETVNETHDRSZ, &header_bytes), 0);
	assert_int_equal(header_bytes, NET_HEADER_BYTES);
	assert_int_equal(read(fd, &header_bytes, sizeof(header_bytes)), -1);
	assert_int_equal(errno, EAGAIN); /* does not block */
	close(fd);
}

static void offloads_are_set_in_any_combination(void **state)
{
	struct error err = {0};

	(void)state;
	need_taps();
	int fd = tap_open("bantam0", &err);

	assert_true(fd >= 0);
	for (unsigned bits = 0; bits < 16; bits++) {
		struct tap_offload offload = {
			.csum = bits & 1,
			.tso4 = bits & 2,
			.tso6 = bits & 4,
			.ufo = bits & 8,
		};

		assert_int_equal(tap_set_offload(fd, offload), 0);
	}
	close(fd);
	assert_int_equal(tap_set_offload(fd, (struct tap_offload){0}), -EBADF);
}

static void a_tap_in_use_is_refused_in_words_that_users_know(void **state)
{
	struct error err = {0};
	char expected[256];

	(void)state;
	need_taps();
	int fd = tap_open("bantam0", &err);

	assert_true(fd >= 0);
	assert_int_equal(tap_open("bantam0", &err), -EBUSY);
	snprintf(expected, sizeof(expected),
		 "Error while creating ifreq structure: %s (os error 16). Invalid TUN/TAP Backend "
		 "provided by bantam0. Check our documentation on setting up the network devices.",
		 strerror(EBUSY));
	assert_string_equal(err.text, expected);
	close(fd);
}

static void an_interface_that_is_no_tap_is_refused(void **state)
{
	struct error err = {0};

	(void)state;
	need_taps();
	assert_true(tap_open("lo", &err) < 0);
	assert_non_null(strstr(err.text, "Invalid TUN/TAP Backend provided by lo."));
}

static void names_are_checked_for_length(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(tap_open("", &err), -EINVAL);
	assert_int_equal(tap_open("a-name-of-16-chr", &err), -EINVAL);
	assert_string_equal(err.text, "Invalid interface name: a-name-of-16-chr");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tap_is_opened_with_the_header_that_virtio_has),
		cmocka_unit_test(offloads_are_set_in_any_combination),
		cmocka_unit_test(a_tap_in_use_is_refused_in_words_that_users_know),
		cmocka_unit_test(an_interface_that_is_no_tap_is_refused),
		cmocka_unit_test(names_are_checked_for_length),
	};

	has_taps = (unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) &&
		   access("/dev/net/tun", R_OK | W_OK) == 0;
	if (!has_taps)
		fprintf(stderr, "no network namespace or no /dev/net/tun here: %s\n",
			strerror(errno));
	return cmocka_run_group_tests_name("tap", tests, NULL, NULL);
}
