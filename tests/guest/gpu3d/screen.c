// SPDX-License-Identifier: Apache-2.0
#include "tests/guest/gpu3d/screen.h"

#include <fcntl.h>

const char *screen_open(struct screen *screen)
{
	drmModeRes *resources;
	drmModeConnector *connector;

	screen->fd = open("/dev/dri/card0", O_RDWR);
	if (screen->fd < 0)
		return "no graphics adapter";
	resources = drmModeGetResources(screen->fd);
	if (!resources || !resources->count_crtcs || !resources->count_connectors)
		return "no head";
	connector = drmModeGetConnector(screen->fd, resources->connectors[0]);
	if (!connector || !connector->count_modes)
		return "no monitor";
	screen->crtc = resources->crtcs[0];
	screen->connector = connector->connector_id;
	screen->mode = connector->modes[0];
	drmModeFreeConnector(connector);
	drmModeFreeResources(resources);
	screen->device = gbm_create_device(screen->fd);
	if (!screen->device)
		return "no buffers";
	screen->surface = gbm_surface_create(screen->device, screen->mode.hdisplay,
					     screen->mode.vdisplay, SCREEN_FORMAT,
					     GBM_BO_USE_SCANOUT | GBM_BO_USE_RENDERING);
	return screen->surface ? NULL : "no surface";
}

const char *screen_show(const struct screen *screen)
{
	struct gbm_bo *buffer = gbm_surface_lock_front_buffer(screen->surface);
	uint32_t connector = screen->connector, id;
	drmModeModeInfo mode = screen->mode;

	if (!buffer)
		return "no buffer";
	if (drmModeAddFB(screen->fd, gbm_bo_get_width(buffer), gbm_bo_get_height(buffer), 24, 32,
			 gbm_bo_get_stride(buffer), gbm_bo_get_handle(buffer).u32, &id) != 0)
		return "no framebuffer";
	if (drmModeSetCrtc(screen->fd, screen->crtc, id, 0, 0, &connector, 1, &mode) != 0)
		return "no mode";
	return NULL;
}
