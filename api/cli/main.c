// SPDX-License-Identifier: Apache-2.0
/* bantam: the command that people use. One table of verbs. */
#include <stdio.h>
#include <string.h>
#include "api/cli/cli.h"
#include "vmm/core/version.h"

struct verb {
	const char *noun, *name;
	const char *arguments; /* for the usage */
	const char *help;
	enum cli_status (*run)(int argc, char *argv[]);
};

static const struct verb verbs[] = {
	{"snapshot", "merge", "BASE DIFF... -o OUT",
	 "one memory file from a full one and the differences after it, oldest first",
	 cli_snapshot_merge},
	{"snapshot", "compress", "FILE -o OUT",
	 "a memory file in fewer bytes, to keep or send; a load unpacks it", cli_snapshot_compress},
	{"snapshot", "decompress", "FILE -o OUT",
	 "a compressed memory file as a plain one, which loads faster and is shared by clones",
	 cli_snapshot_decompress},
	{"snapshot", "describe", "FILE [--json]",
	 "what a snapshot's state file says about itself, its microVM and its host",
	 cli_snapshot_describe},
};
#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

enum cli_status cli_fail(const struct error *err)
{
	fprintf(stderr, "bantam: %s\n", err->text);
	return CLI_FAILED;
}

static void print_usage(FILE *out)
{
	fputs("usage:\n", out);
	for (size_t i = 0; i < VERB_COUNT; i++)
		fprintf(out, "  bantam %s %s %s\n      %s\n", verbs[i].noun, verbs[i].name,
			verbs[i].arguments, verbs[i].help);
}

static const struct verb *find_verb(const char *noun, const char *name)
{
	for (size_t i = 0; i < VERB_COUNT; i++)
		if (!strcmp(verbs[i].noun, noun) && !strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

int main(int argc, char *argv[])
{
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_usage(stdout);
		return CLI_DONE;
	}
	if (argc == 2 && !strcmp(argv[1], "--version")) {
		printf("bantam %s\n", BANTAM_VERSION);
		return CLI_DONE;
	}
	const struct verb *verb = argc >= 3 ? find_verb(argv[1], argv[2]) : NULL;
	enum cli_status status = verb ? verb->run(argc - 3, argv + 3) : CLI_USAGE;

	if (status == CLI_USAGE && verb)
		fprintf(stderr, "usage: bantam %s %s %s\n", verb->noun, verb->name,
			verb->arguments);
	else if (status == CLI_USAGE)
		print_usage(stderr);
	return status;
}
