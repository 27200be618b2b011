// SPDX-License-Identifier: Apache-2.0
/*
 * The handlers of the routes: each turns one parsed body into calls of vm.h.
 *
 * A handler returns 0 (what it wrote to call->out is the answer) or -errno with the fault's text, to which the route
 * adds its prefix. Checks run before the state rule and their texts are not prefixed.
 */
#ifndef API_RESOURCES_H
#define API_RESOURCES_H

#include "api/routes.h"

int api_get_instance(struct api_call *call, struct error *err) must_check;
int api_get_version(struct api_call *call, struct error *err) must_check;
int api_get_vm_config(struct api_call *call, struct error *err) must_check;
int api_get_machine(struct api_call *call, struct error *err) must_check;

int api_set_machine(struct api_call *call, struct error *err) must_check; /* PUT and PATCH */
int api_put_boot_source(struct api_call *call, struct error *err) must_check;
int api_put_drive(struct api_call *call, struct error *err) must_check;
int api_put_net(struct api_call *call, struct error *err) must_check;
int api_put_vsock(struct api_call *call, struct error *err) must_check;
int api_put_entropy(struct api_call *call, struct error *err) must_check;
int api_put_serial(struct api_call *call, struct error *err) must_check;
int api_put_logger(struct api_call *call, struct error *err) must_check;
int api_put_metrics(struct api_call *call, struct error *err) must_check;

int api_patch_drive(struct api_call *call, struct error *err) must_check;
int api_patch_net(struct api_call *call, struct error *err) must_check;
int api_patch_vm(struct api_call *call, struct error *err) must_check;

int api_create_snapshot(struct api_call *call, struct error *err) must_check;
int api_load_snapshot(struct api_call *call, struct error *err) must_check;
int api_check_load(const struct api_call *call, struct error *err) must_check;

int api_put_action(struct api_call *call, struct error *err) must_check;

/* The id in the path is the one in the body. */
int api_check_drive_id(const struct api_call *call, struct error *err) must_check;
int api_check_drive_patch_id(const struct api_call *call, struct error *err) must_check;
int api_check_net_id(const struct api_call *call, struct error *err) must_check;
int api_check_net_patch_id(const struct api_call *call, struct error *err) must_check;

/* Defaults that are not zero; what a PATCH starts from. */
void api_init_logger(const struct vm *vm, union api_body *body);
void api_init_machine_patch(const struct vm *vm, union api_body *body);

/* The deprecated field that the body uses; NULL: none. */
const char *api_machine_deprecated(const union api_body *body);
const char *api_vsock_deprecated(const union api_body *body);
const char *api_load_deprecated(const union api_body *body);

#endif
