/* SPDX-License-Identifier: Apache-2.0 */
/* The first monitor of the first graphics adapter, and buffers that it can show. */
#ifndef TESTS_GUEST_GPU3D_SCREEN_H
#define TESTS_GUEST_GPU3D_SCREEN_H

#include <gbm.h>
#include <xf86drmMode.h>

#define SCREEN_FORMAT GBM_FORMAT_XRGB8888

struct screen {
	int fd;
	uint32_t crtc, connector;
	drmModeModeInfo mode; /* that it likes best */
	struct gbm_device *device;
	struct gbm_surface *surface;
};

/* NULL, or what there is not. */
const char *screen_open(struct screen *screen);
/* What the surface's last buffer has, for as long as the process lives. NULL, or what failed. */
const char *screen_show(const struct screen *screen);

#endif
